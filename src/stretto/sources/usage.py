"""Remembers when a mirror or checkout was last used, so that the collector and a user of it can't miss each other."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def mark(path: Path) -> Path:
    """Return the file beside `path` whose modification time says when `path` was last used."""
    return path.with_name(f"{path.name}.used")


def mark_used(path: Path) -> bool:
    """Mark the directory `path` as used now; False if there is none. After True the collector has seen the mark."""
    if not path.is_dir():
        return False
    with _locked(mark(path), fcntl.LOCK_SH) as descriptor:
        os.utime(descriptor)
        return path.is_dir()


def take_away(path: Path, to: Path, *, unless_used_after: float) -> bool:
    """Rename the directory `path` to `to` and delete its mark; False if it is gone or was used after that time (POSIX)."""
    with _locked(mark(path), fcntl.LOCK_EX) as descriptor:
        if os.fstat(descriptor).st_mtime > unless_used_after or not path.is_dir():
            return False
        path.rename(to)
        mark(path).unlink(missing_ok=True)
        return True


def used_at(path: Path) -> float:
    """Return when `path` was last used, as POSIX time; where no mark says so, when it was last changed."""
    for candidate in (mark(path), path):
        try:
            return candidate.lstat().st_mtime
        except FileNotFoundError:
            continue
    return 0.0


@contextmanager
def _locked(file: Path, how: int) -> Iterator[int]:
    # Held for a stat and a rename only, so waiting for it does not block the loop for longer than a file operation.
    existed = file.exists()
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not existed and how == fcntl.LOCK_EX:
            os.utime(descriptor, (0, 0))  # a mark made by the collector is no use
        fcntl.flock(descriptor, how)
        yield descriptor
    finally:
        os.close(descriptor)
