"""Turns what the file system says into errors of Stretto, with the path and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stretto.core.errors import DiskFullError, StoreError, StrettoError

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
FULL_HINT: Final = "free some disk space, for example with: stretto gc"


@contextmanager
def kept_on_disk(place: Path) -> Iterator[None]:
    """Raise DiskFullError or StoreError in place of an OSError that comes up while something is kept in `place`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StrettoError):
            raise
        message = f"{error.filename or place}: {error.strerror or error}"
        if error.errno in FULL:
            raise DiskFullError(message, hint=FULL_HINT) from error
        raise StoreError(message, hint=f"check who owns {place} and how it is mounted") from error
