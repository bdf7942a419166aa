"""Logs in a PostgreSQL database, for conductors and API servers on different hosts.

Output is written in batches (`log_writer`), each of which is whole or not there. Readers are told of it through NOTIFY, and those
of one log share what they read: fifty that follow it ask the database as often as one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from stretto.core.spec import AttemptKey
from stretto.store import rows
from stretto.store.place import check_run_id
from stretto.store.postgres.database import Connection, Database
from stretto.store.postgres.feed import Feed
from stretto.store.postgres.log_writer import TIME, Batches, PostgresLogWriter
from stretto.store.postgres.share import Share
from stretto.store.query import read_queries
from stretto.store.rows import moment

SQL: Final = read_queries("postgres_logs")

_PIECE_BYTES: Final = 256 * 1024
"""What a reader asks for at once."""
_SHARED_BYTES: Final = 8 * 1024 * 1024
"""What is kept of what readers got last, for others that come to the same place."""
_LOOK_S: Final = 2.0
"""How long a reader waits for news before it looks all the same."""
_LOOK_FOR_LOG_S: Final = (0.05, 1.0)
"""The same where there is no log yet: that an attempt ended without one is not told."""


async def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class _Head:
    """What is known of a log."""

    number: int
    size_bytes: int
    complete: bool


class PostgresLogs:
    """A `LogStore` in the database. One writer per log at a time, the newest; any number of readers in any process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feed = Feed(database)
        self._heads: Share[AttemptKey, _Head | None] = Share(0)
        self._pieces: Share[tuple[int, int], bytes] = Share(_SHARED_BYTES)
        self._batches = Batches(database, self._feed.tell)

    async def close(self) -> None:
        """Write what was appended, then let go of the connections. May be called again."""
        await self._batches.close()
        await self._heads.close()
        await self._pieces.close()
        await self._feed.close()

    async def open(self, key: AttemptKey) -> PostgresLogWriter:
        """Open the attempt's log to write on, where the last batch ended; whoever had it open can't write any more."""
        check_run_id(key.run_id)

        async def act(connection: Connection) -> tuple[Any, ...]:
            row = await (await connection.execute(SQL["open_log"], _columns(key))).fetchone()
            assert row is not None  # the statement inserts or updates
            return row

        found = await self._database.call(act, patience_s=self._database.patience.commit_s)
        number, writer, size, position = found
        return PostgresLogWriter(self._batches, key, number, writer, size, position)

    async def read(
        self,
        key: AttemptKey,
        *,
        offset: int = 0,
        follow: bool = False,
        is_over: Callable[[], Awaitable[bool]] = _never,
    ) -> AsyncIterator[bytes]:
        """Yield the log's bytes from `offset`; with `follow` wait for more until the log is complete or deleted.

        An attempt that wrote nothing has no log: while there is none, a follower asks `is_over` whether to wait any longer.
        """
        pause_s, seen = _LOOK_FOR_LOG_S[0], False
        with self._feed.subscribe(key.text, lambda: self._heads.forget(key)) as changed:
            while True:
                changed.clear()
                over = not seen and follow and await is_over()
                head = await self._heads.get(key, lambda: self._read_head(key))
                if head is None and (seen or over):
                    return
                while head is not None and offset < head.size_bytes:
                    data = await self._read_piece(head.number, offset)
                    if not data:
                        return  # deleted meanwhile
                    offset += len(data)
                    yield data
                if not follow or (head is not None and head.complete):
                    return
                seen = head is not None
                if self._feed.is_new:
                    await self._feed.open()
                    self._heads.forget(key)
                    continue  # for what was written before that
                await _wait(changed, _LOOK_S if seen else pause_s)
                self._heads.forget(key)
                pause_s = min(2 * pause_s, _LOOK_FOR_LOG_S[1])

    async def size(self, key: AttemptKey) -> int:
        """Return how many bytes can be read of the log now; 0 where there is none."""
        head = await self._read_head(key)
        return 0 if head is None else head.size_bytes

    async def lines(self, key: AttemptKey) -> list[tuple[datetime, bytes]]:
        """Return the log's lines, without line ends, each with the time its first byte came."""
        head = await self._read_head(key)
        lines: list[tuple[datetime, bytes]] = []
        rest: list[bytes] = []
        begun_at = offset = 0
        while head is not None and offset < head.size_bytes:
            chunks = await self._read_chunks(head.number, offset)
            if not chunks:
                break  # deleted meanwhile
            for start, times, data in chunks:
                for at, part in _parts(start, times, data):
                    for line in _split(part):
                        begun_at = begun_at if rest else at
                        rest.append(line)
                        if line.endswith(b"\n"):
                            lines.append((moment(begun_at), _join(rest)))
                            rest = []
                offset = start + len(data)
        if rest:
            lines.append((moment(begun_at), _join(rest)))
        return lines

    async def delete(self, run_id: str) -> int:
        """Delete the run's logs and return how many bytes of output that freed."""

        async def act(connection: Connection) -> int:
            # Two statements: a batch that the first one waited for is seen by the second one only.
            async with connection.transaction():
                gone = await (await connection.execute(SQL["delete_logs"], (rows.text(run_id),))).fetchall()
                await connection.execute(SQL["delete_chunks"], ([number for number, _ in gone],))
            return sum(size for _, size in gone)

        return await self._database.call(act)

    # ------------------------------------------------------------------------------------------------------- reading

    async def _read_head(self, key: AttemptKey) -> _Head | None:
        async def act(connection: Connection) -> _Head | None:
            row = await (await connection.execute(SQL["select_head"], _columns(key))).fetchone()
            return None if row is None else _Head(*row)

        return await self._database.call(act)

    async def _read_piece(self, log: int, offset: int) -> bytes:
        async def read() -> bytes:
            chunks = await self._read_chunks(log, offset)
            first = chunks[0][0] if chunks else offset
            return b"".join(data for _, _, data in chunks)[offset - first :]

        return await self._pieces.get((log, offset), read, len)

    async def _read_chunks(self, log: int, offset: int) -> list[tuple[Any, ...]]:
        values = {"log": log, "offset": offset, "piece": _PIECE_BYTES}

        async def act(connection: Connection) -> list[tuple[Any, ...]]:
            return await (await connection.execute(SQL["select_chunks"], values, binary=True)).fetchall()

        return await self._database.call(act)


def _parts(start: int, times: bytes, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the parts of a chunk, each with the time it came, in microseconds."""
    begun = start
    for at, end in TIME.iter_unpack(times):
        yield at, data[begun - start : end - start]
        begun = end


def _split(part: bytes) -> list[bytes]:
    """Return the lines of a part with their line feeds; unlike `splitlines`, no other character ends one."""
    *whole, tail = part.split(b"\n")
    return [line + b"\n" for line in whole] + ([tail] if tail else [])


def _join(pieces: list[bytes]) -> bytes:
    return b"".join(pieces).removesuffix(b"\n").removesuffix(b"\r")


def _columns(key: AttemptKey) -> tuple[Any, ...]:
    return rows.text(key.run_id), rows.text(key.job), key.number


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
