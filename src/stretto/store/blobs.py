"""Blobs as files, one directory for all: for a store on one host."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from stretto.core.errors import NotFoundError, StoreError
from stretto.core.ports import Tables
from stretto.store.artifacts import content_digest, sync_directory
from stretto.store.failure import os_error

_SUFFIX: Final = ".pack"
"""Uploaded packs are all that is kept so; artifacts of one host have a store of their own."""


class FileBlobs:
    """A `core.ports.BlobStore` under one directory, for the packs of uploads; several processes may use it at once."""

    def __init__(self, directory: Path, tables: Tables) -> None:
        self._directory = directory
        self._tables = tables

    async def put(self, files: Mapping[str, Path]) -> None:
        """Have the files under their digests, linked where that can be: nobody may write to them any more."""
        for digest, file in files.items():
            await asyncio.to_thread(self._put, digest, file)

    async def get(self, files: Mapping[str, Path]) -> None:
        """Make the files, by link where that can be; NotFoundError."""
        for digest, target in files.items():
            await asyncio.to_thread(self._get, digest, target)

    async def has(self, digest: str) -> bool:
        """Say whether these bytes are there."""
        return self._path(digest).exists()

    async def delete_unused(self, unused_since: datetime) -> int:
        """Delete what no upload uses and nobody has put since then; return how many bytes that freed."""
        used = {digest for (digest,) in await self._tables.read("SELECT digest FROM upload")}
        return await asyncio.to_thread(self._delete, used, unused_since.timestamp())

    def _put(self, digest: str, file: Path) -> None:
        path = self._path(digest)
        try:
            if content_digest(file) != digest:
                raise StoreError(f"{file} has not the content that was announced ({digest})")
            with self._locked(fcntl.LOCK_SH):
                if not path.exists():
                    draft = path.with_name(f".{digest}.{os.urandom(4).hex()}")
                    _link(file, draft)
                    draft.replace(path)
                    sync_directory(path.parent)
                os.utime(path)  # not to be collected before anything says that it is used
        except OSError as error:
            raise os_error(path, error) from error

    def _get(self, digest: str, target: Path) -> None:
        try:
            _link(self._path(digest), target)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no blob {digest}") from error
        except OSError as error:
            raise os_error(target, error) from error

    def _delete(self, used: Collection[str], unused_since: float) -> int:
        freed = 0
        try:
            with self._locked(fcntl.LOCK_EX):
                for path in self._directory.glob(f"*{_SUFFIX}"):
                    status = path.stat()
                    if path.stem not in used and status.st_mtime < unused_since:
                        path.unlink()
                        freed += status.st_size if status.st_nlink == 1 else 0
        except OSError as error:
            raise os_error(self._directory, error) from error
        return freed

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Hold the lock between putting (shared) and deleting (exclusive); it ends with the process."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "lock").open("a") as file:
            fcntl.flock(file, kind)
            yield

    def _path(self, digest: str) -> Path:
        return self._directory / f"{digest}{_SUFFIX}"


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:  # another file system, or one without hard links
        with source.open("rb") as reader, target.open("xb") as writer:
            shutil.copyfileobj(reader, writer)
            writer.flush()
            os.fsync(writer.fileno())
