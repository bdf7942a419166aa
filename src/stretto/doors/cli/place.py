"""Where a person stands: the top of the working tree around a directory, found without git."""

from __future__ import annotations

from pathlib import Path


def find_top(directory: Path) -> Path | None:
    """Return the top of the working tree that holds `directory`, None where there is none."""
    start = directory.absolute()
    return next((path for path in (start, *start.parents) if (path / ".git").exists()), None)
