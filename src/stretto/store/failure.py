"""What SQLite and the operating system report when they can't write, told in our own errors."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from stretto.core.errors import DiskFullError, SchemaError, StoreError

_DISK_HINT = "free some space (`stretto gc` deletes old runs) and try again"

_MEANING: dict[int, str] = {
    sqlite3.SQLITE_BUSY: "is locked by another process for too long",
    sqlite3.SQLITE_LOCKED: "is locked by another process for too long",
    sqlite3.SQLITE_READONLY: "is read-only",
    sqlite3.SQLITE_PERM: "may not be opened: permission denied",
    sqlite3.SQLITE_CANTOPEN: "can't be opened",
    sqlite3.SQLITE_AUTH: "may not be opened: permission denied",
    sqlite3.SQLITE_IOERR: "can't be read or written: I/O error",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is not an SQLite database",
    sqlite3.SQLITE_NOMEM: "can't be used: out of memory",
    sqlite3.SQLITE_NOLFS: "is too large for this file system",
    sqlite3.SQLITE_PROTOCOL: "is locked by another process for too long",
    sqlite3.SQLITE_TOOBIG: "can't hold a value that large",
}
"""Primary result codes (sqlite.org/rescode.html) that are no bug of ours."""

_OF_THE_PLACE = frozenset(_MEANING) - {sqlite3.SQLITE_TOOBIG} | {sqlite3.SQLITE_FULL}


def is_of_the_place(error: BaseException) -> bool:
    """Say whether the error comes from where the store is kept, and so befalls every write alike."""
    return _code(error) in _OF_THE_PLACE


def is_busy(error: BaseException) -> bool:
    """Say whether another connection holds the lock that was asked for."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


def store_error(path: Path, error: Exception) -> StoreError:
    """Return the StoreError that says what `error`, raised while `path` was used, means."""
    if isinstance(error, OSError):
        return os_error(path, error)
    code = _code(error)
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path)):
        # growing the shared-memory file on a full disk is reported as an I/O error
        return DiskFullError(f"no room left on the disk for {path}", hint=_DISK_HINT)
    if code in _MEANING:
        return StoreError(f"{path} {_MEANING[code]} ({error})")
    if code == sqlite3.SQLITE_SCHEMA or (code == sqlite3.SQLITE_ERROR and "no such" in str(error)):
        return SchemaError(f"{path} has not the tables of this Stretto ({error})")
    return StoreError(f"{path}: {type(error).__name__}: {error}")


def os_error(path: Path, error: OSError) -> StoreError:
    """Return the StoreError that says what the system call on `path` failed of."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"no room left on the disk for {path}", hint=_DISK_HINT)
    return StoreError(f"{path}: {error.strerror or error}")


def _code(error: BaseException) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF  # the low byte is the primary code


def _is_full(path: Path) -> bool:
    try:
        return os.statvfs(path.parent).f_bavail == 0
    except OSError:
        return False
