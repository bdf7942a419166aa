"""A little room kept on the disk, so that a run that filled it can still be brought to its end.

The end of a job is on record before what the job left is deleted. Where the job took the last block, the record has no room, and
nothing would ever get any. So a file of some size stands beside the store; when a write finds the disk full, it goes, and the
write is tried again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SIZE_BYTES: Final = 1024 * 1024
"""Some thirty commits: enough to record the end of what runs, whose trees and output then make room."""


class Reserve:
    """The file at `path`. Several processes may have the same one: the first that needs it takes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self) -> None:
        """Make the file if it isn't there and the disk has room for it."""
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            return  # it is there, or the place can't be written to, which the store itself will tell
        try:
            os.posix_fallocate(file, 0, SIZE_BYTES)
        except OSError:
            self._path.unlink(missing_ok=True)  # no room now
        finally:
            os.close(file)

    def give(self) -> bool:
        """Give the room back to the disk; False if there is none to give."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
