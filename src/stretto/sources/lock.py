"""A lock between processes. It lives in the kernel, so `kill -9` of its holder frees it at once."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from stretto.core.errors import StrettoError

_POLL_S: Final = 0.02
"""flock has no time-out of its own; what the lock guards takes milliseconds at the least."""


class LockTimeoutError(StrettoError):
    """Another process held the lock for too long; nothing was done."""

    exit_code = 1


@asynccontextmanager
async def locked(path: Path, *, timeout_s: float) -> AsyncIterator[None]:
    """Hold the lock file `path` (made if missing); LockTimeoutError after `timeout_s`. Its holder may delete the file."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while (descriptor := _try(path)) is None:
        if asyncio.get_running_loop().time() >= deadline:
            raise LockTimeoutError(
                f"{path}: another process has held this lock for {timeout_s:.0f} s",
                hint=f"wait for it, or find it with: fuser {path}",
            )
        await asyncio.sleep(_POLL_S)
    try:
        yield
    finally:
        os.close(descriptor)


def _try(path: Path) -> int | None:
    """Return the descriptor that holds the lock; None if somebody else has it, or had it and deleted the file."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o644)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, flags, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None
