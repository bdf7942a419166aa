"""Holds some disk space back, so that a job which fills the disk can still be put on record as the one that did."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 1024 * 1024
"""The end of a run takes some 40 kB; this is enough for all that run at once, and no disk misses it."""


class Reserve:
    """A file beside the store that takes up room. Any number of processes may share it."""

    def __init__(self, store: Path) -> None:
        self._path = store.with_name(f"{store.name}.reserve")

    def hold(self) -> None:
        """Take the room, unless it is held already or isn't there."""
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(file, 0, RESERVE_BYTES)
        except OSError:
            self.release()
        finally:
            os.close(file)

    def release(self) -> bool:
        """Give the room back; False if none was held."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
