"""Durations as people write them: `1h30m` is 5400 seconds, and back."""

from durations.text import DurationError, format_seconds, parse

__all__ = ["DurationError", "format_seconds", "parse"]
