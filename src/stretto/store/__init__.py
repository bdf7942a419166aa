"""Durable state: runs and events, logs, artifacts. Stores do not know each other."""
