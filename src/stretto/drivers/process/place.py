"""Where in its tree a script starts."""

from __future__ import annotations

from pathlib import Path

from stretto.core.errors import DriverError
from stretto.core.states import Reason


def find_place(root: Path, working_directory: str | None) -> Path:
    """Return the directory of the tree at `root` in which the script starts. DriverError where it is none, or not in the tree."""
    if working_directory is None:
        return root
    try:
        place = (root / working_directory).resolve()
        is_inside, is_there = place.is_relative_to(root.resolve()), place.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, links in a circle, a NUL
        raise DriverError(f"working_directory {working_directory!r}: {error}", reason=Reason.START_FAILED) from error
    if not is_inside:
        raise DriverError(f"working_directory {working_directory!r} leaves the tree", reason=Reason.START_FAILED)
    if not is_there:
        raise DriverError(
            f"working_directory {working_directory!r} is not a directory of the tree",
            reason=Reason.START_FAILED,
            hint="it is taken relative to the repository's root",
        )
    return place
