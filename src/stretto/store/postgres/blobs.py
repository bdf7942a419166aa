"""Blobs in a PostgreSQL database: the bytes of artifacts and uploaded packs, for conductors and API servers on different hosts.

Bytes go and come in chunks of 1 MiB, so that neither side ever holds a whole file. A blob and its chunks are one transaction:
what was cut off is not there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import psycopg

from stretto.core.errors import NotFoundError, StoreError
from stretto.store.failure import os_error
from stretto.store.postgres.database import Connection, Database, Retry
from stretto.store.query import read_queries
from stretto.store.rows import micros

T = TypeVar("T")

SQL: Final = read_queries("postgres_blobs")

CHUNK_BYTES: Final = 1024 * 1024
_TOGETHER_BYTES: Final = 16 * 1024 * 1024
"""What one statement carries at most, but for its last file: it must end well within the time-out of statements."""
_TOGETHER_FILES: Final = 1_000
_STATEMENT_TIMEOUT_S: Final = 90.0
_PUTS: Final = 2
"""How many tasks of a process put at a time; each has a connection of its own."""
_DELETE_TOGETHER: Final = 100


class PostgresBlobs:
    """A `BlobStore` in the database. Used by the tasks of one event loop, in any number of processes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._puts = asyncio.Semaphore(_PUTS)

    async def put(self, files: Mapping[str, Path]) -> None:
        """Have the files on record, durable when this returns; StoreError if one has another digest. Idempotent."""
        if not files:
            return None
        sizes = await asyncio.to_thread(_sizes, files)
        retry = Retry(self._database.patience.commit_s)
        async with self._puts:
            while True:
                try:
                    async with await self._database.connect() as connection:
                        return await self._put(connection, files, sizes)
                except (psycopg.Error, OSError) as error:  # a TimeoutError is one
                    if not await retry.pause_after(error):
                        raise self._database.error(error) from error

    async def get(self, files: Mapping[str, Path]) -> None:
        """Make the files; NotFoundError, StoreError for a blob that is damaged."""
        found = await self._call(lambda connection: _select_sizes(connection, list(files)))
        if missing := sorted(files.keys() - found.keys()):
            raise NotFoundError(f"there is no blob {missing[0]}")
        for group in _groups({digest: size for digest, size in found.items() if size <= CHUNK_BYTES}):
            await self._get_small(group, files)
        for digest, size in found.items():
            if size > CHUNK_BYTES:
                await self._get_large(digest, size, files[digest])

    async def has(self, digest: str) -> bool:
        """Say whether these bytes are on record."""
        return bool(await self._database.call(lambda connection: _select_sizes(connection, [digest])))

    async def delete_unused(self, unused_since: datetime) -> int:
        """Delete what neither an artifact nor an upload uses and nobody has put since then; return how many bytes that freed."""
        since = micros(unused_since)

        async def find(connection: Connection) -> list[str]:
            found = await connection.execute(SQL["select_unused"], (since,))
            return [digest for (digest,) in await found.fetchall()]

        freed = 0
        unused = await self._database.call(find)
        for start in range(0, len(unused), _DELETE_TOGETHER):
            some = unused[start : start + _DELETE_TOGETHER]

            async def delete(connection: Connection, some: Sequence[str] = some) -> int:
                gone = await (await connection.execute(SQL["delete"], (some, since))).fetchall()
                return sum(size for (size,) in gone)

            freed += await self._database.call(delete)
        return freed

    async def _call(self, act: Callable[[Connection], Awaitable[T]]) -> T:
        """Have `act` done over a connection of the pool; a server that restarts is waited for, as jobs wait for the bytes."""
        return await self._database.call(act, patience_s=self._database.patience.commit_s)

    # ------------------------------------------------------------------------------------------------------- putting

    async def _put(self, connection: Connection, files: Mapping[str, Path], sizes: Mapping[str, int]) -> None:
        """Put what is not there yet, several small files in a transaction."""
        async with asyncio.timeout(_STATEMENT_TIMEOUT_S):
            found = await (await connection.execute(SQL["touch"], (list(files),))).fetchall()
        known = {digest for (digest,) in found}
        for group in _groups({digest: size for digest, size in sorted(sizes.items()) if digest not in known}):
            async with connection.transaction():
                async with asyncio.timeout(_STATEMENT_TIMEOUT_S):
                    values = (group, [sizes[digest] for digest in group])
                    ours = [digest for (digest,) in await (await connection.execute(SQL["add"], values)).fetchall()]
                await _write(connection, {digest: files[digest] for digest in ours}, sizes)

    # ------------------------------------------------------------------------------------------------------- getting

    async def _get_small(self, digests: Sequence[str], files: Mapping[str, Path]) -> None:
        async def act(connection: Connection) -> list[tuple[str, bytes]]:
            found = await connection.execute(SQL["select_whole"], (list(digests),), binary=True)
            return [(digest, data) for digest, data in await found.fetchall()]

        found = dict(await self._call(act))
        await asyncio.to_thread(_save, {digest: found.get(digest, b"") for digest in digests}, files)

    async def _get_large(self, digest: str, size: int, target: Path) -> None:
        content = hashlib.sha256()
        try:
            with target.open("xb") as file:
                for number in range(-(-size // CHUNK_BYTES)):
                    data = await self._read_chunk(digest, number)
                    content.update(data)
                    await asyncio.to_thread(file.write, data)
        except OSError as error:
            raise os_error(target, error) from error
        if content.hexdigest() != digest:
            raise _damaged(digest)

    async def _read_chunk(self, digest: str, number: int) -> bytes:
        async def act(connection: Connection) -> bytes:
            row = await (await connection.execute(SQL["select_chunk"], (digest, number), binary=True)).fetchone()
            if row is None:
                raise NotFoundError(f"the blob {digest} was deleted while it was read")
            data: bytes = row[0]
            return data

        return await self._call(act)


async def _select_sizes(connection: Connection, digests: list[str]) -> dict[str, int]:
    found = await connection.execute(SQL["select_sizes"], (digests,))
    return dict(await found.fetchall())


async def _write(connection: Connection, files: Mapping[str, Path], sizes: Mapping[str, int]) -> None:
    """Write the chunks of the files, a COPY for every 16 MiB; StoreError for a file that is not what it should be."""
    chunks = _chunks(files, sizes)
    ended = False
    while not ended:
        written = 0
        async with (
            asyncio.timeout(_STATEMENT_TIMEOUT_S),
            connection.cursor() as cursor,
            cursor.copy(SQL["write"]) as copy,
        ):
            copy.set_types(["text", "int8", "bytea"])
            while written < _TOGETHER_BYTES and not ended:
                if (chunk := await asyncio.to_thread(next, chunks, None)) is None:
                    ended = True
                else:
                    await copy.write_row(chunk)
                    written += len(chunk[2])


def _chunks(files: Mapping[str, Path], sizes: Mapping[str, int]) -> Iterator[tuple[str, int, bytes]]:
    for digest, path in files.items():
        content, number, size = hashlib.sha256(), 0, 0
        try:
            with path.open("rb") as file:
                while data := file.read(CHUNK_BYTES):
                    content.update(data)
                    size += len(data)
                    yield digest, number, data
                    number += 1
        except OSError as error:
            raise os_error(path, error) from error
        if content.hexdigest() != digest or size != sizes[digest]:
            raise StoreError(f"{path} has not the content that was announced ({digest})")


def _groups(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield the digests in groups of bounded size and number; a large one is alone, or the last of its group."""
    group: list[str] = []
    total = 0
    for digest, size in sizes.items():
        group.append(digest)
        total += size
        if total >= _TOGETHER_BYTES or len(group) >= _TOGETHER_FILES:
            yield group
            group, total = [], 0
    if group:
        yield group


def _sizes(files: Mapping[str, Path]) -> dict[str, int]:
    sizes = {}
    for digest, path in files.items():
        try:
            sizes[digest] = path.stat().st_size
        except OSError as error:
            raise os_error(path, error) from error
    return sizes


def _save(found: Mapping[str, bytes], files: Mapping[str, Path]) -> None:
    for digest, data in found.items():
        if hashlib.sha256(data).hexdigest() != digest:
            raise _damaged(digest)
        try:
            with files[digest].open("xb") as file:
                file.write(data)
        except OSError as error:
            raise os_error(files[digest], error) from error


def _damaged(digest: str) -> StoreError:
    return StoreError(f"the blob {digest} is damaged: its content has changed")
