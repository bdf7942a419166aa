"""Stretto: one orchestrator for everything a team runs as a pipeline."""

__version__ = "0.1.0"
