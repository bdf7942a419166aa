"""Logs in a PostgreSQL database, for conductors and API servers on different hosts.

All writers of a process share one task that writes what came within 50 ms, of however many logs, in one statement: a busy process
costs the database some twenty commits a second. A batch and the row that says where its log ends are one transaction, so there is
no half-written end to cut off. Readers are told through NOTIFY, and those of one log share what they read.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from stretto.core.errors import FenceLostError, StoreError
from stretto.core.ports import LogChunk
from stretto.core.spec import AttemptKey
from stretto.store import rows
from stretto.store.place import check_run_id
from stretto.store.postgres.database import Connection, Database
from stretto.store.postgres.feed import Feed
from stretto.store.postgres.share import Share
from stretto.store.query import read_queries
from stretto.store.rows import micros, moment

SQL: Final = read_queries("postgres_logs")

CHUNK_BYTES: Final = 256 * 1024
"""A batch of one log is written when it has so much, or is 50 ms old."""
_FLUSH_S: Final = 0.05
_STATEMENT_BYTES: Final = 4 * 1024 * 1024
"""What one statement holds at most, but for its last batch."""
_PIECE_BYTES: Final = 256 * 1024
"""What a reader asks for at once."""
_SHARED_BYTES: Final = 8 * 1024 * 1024
"""What is kept of what readers got last, for others that come to the same place."""
_SAME_TIME_US: Final = 1_000
"""Chunks that came within a millisecond share a time."""
_LOOK_S: Final = 2.0
"""How long a reader waits for news before it looks all the same."""
_LOOK_FOR_LOG_S: Final = (0.05, 1.0)
"""The same where there is no log yet: that an attempt ended without one is not told."""
_TIME: Final = struct.Struct("<qq")


_CLOSE_S: Final = 10.0
"""How long the last batches may take when a process ends; drivers have what is missing still."""


async def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class _Head:
    """What is known of a log."""

    number: int
    size_bytes: int
    complete: bool


class _Batch:
    """What came of one log since its last batch was taken; `done` is set when it is on disk, or has the error."""

    __slots__ = ("complete", "done", "end", "parts", "position", "start", "times", "writer")

    def __init__(self, writer: PostgresLogWriter, start: int) -> None:
        self.writer = writer
        self.start = self.end = start
        self.position = writer.position
        self.complete = False
        self.parts: list[bytes] = []
        self.times: list[tuple[int, int]] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def add(self, chunk: LogChunk) -> None:
        self.parts.append(chunk.data)
        self.end += len(chunk.data)
        self.position = chunk.position
        at = micros(chunk.at)
        if self.times and at - self.times[-1][0] < _SAME_TIME_US:
            self.times[-1] = (self.times[-1][0], self.end)
        else:
            self.times.append((at, self.end))


class PostgresLogs:
    """A `LogStore` in the database. One writer per log at a time, the newest; any number of readers in any process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feed = Feed(database)
        self._heads: Share[AttemptKey, _Head | None] = Share(0)
        self._pieces: Share[tuple[int, int], bytes] = Share(_SHARED_BYTES)
        self._waiting: dict[PostgresLogWriter, _Batch] = {}
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._flusher: asyncio.Task[None] | None = None
        self._closing = False

    async def close(self) -> None:
        """Write what was appended, then let go of the connections. May be called again."""
        if self._flusher is not None:
            self._closing = True
            self._wake.set()
            await asyncio.wait([self._flusher], timeout=_CLOSE_S)
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)
            self._flusher = None
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
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush(), name="stretto-log-writer")
        return PostgresLogWriter(self, key, number, writer, size, position)

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

    # ------------------------------------------------------------------------------------------------------- writing

    def batch_of(self, writer: PostgresLogWriter, start: int) -> _Batch:
        """Return the batch that what comes next belongs to; it is written within 50 ms."""
        if writer not in self._waiting:
            self._waiting[writer] = writer.latest = _Batch(writer, start)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self._wake.set)
        return self._waiting[writer]

    async def write_now(self, batch: _Batch) -> None:
        """Come back when the batch, and all before it, is on disk or could not be written."""
        self._wake.set()
        await asyncio.shield(batch.done)

    async def _flush(self) -> None:
        while not self._closing or self._waiting:
            await self._wake.wait()
            self._wake.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            waiting = list(self._waiting)  # what comes while these are written has its own 50 ms
            while waiting:
                batches, size = [], 0
                while waiting and size < _STATEMENT_BYTES:
                    batches.append(self._waiting.pop(waiting.pop(0)))
                    size += batches[-1].end - batches[-1].start
                await self._write(batches)

    async def _write(self, batches: list[_Batch]) -> None:
        """Write the batches; each learns for itself how that went. A server that is away is waited for."""
        failures: dict[int, StoreError] = {}
        try:
            patience_s = self._database.patience.commit_s
            failures = await self._database.call(lambda connection: _append(connection, batches), patience_s=patience_s)
        except BaseException as error:
            failure = error if isinstance(error, StoreError) else StoreError("the process ended before it was written")
            failures = {batch.writer.number: failure for batch in batches}
            if not isinstance(error, StoreError):
                raise
        finally:
            for batch in batches:
                self._settle(batch, failures.get(batch.writer.number))
        if written := [batch.writer.key.text for batch in batches if batch.writer.number not in failures]:
            self._feed.tell(written)

    def _settle(self, batch: _Batch, error: StoreError | None) -> None:
        batch.writer.note(batch, error)
        batch.done.set_result(None)
        if error is not None and (later := self._waiting.pop(batch.writer, None)) is not None:
            later.done.set_result(None)  # it would leave a gap; the writer has the error


class PostgresLogWriter:
    """The one writer of an attempt's log; after an error `position` is where the log stands on disk."""

    def __init__(
        self, logs: PostgresLogs, key: AttemptKey, number: int, writer: int, size_bytes: int, position: int
    ) -> None:
        self.key = key
        self.number = number
        self.writer = writer
        self.position = position
        self.latest: _Batch | None = None
        """What was begun last: when it is done, all is."""
        self._logs = logs
        self._end = size_bytes
        self._written = size_bytes, position
        self._failure: StoreError | None = None
        self._closed = False

    async def append(self, chunk: LogChunk) -> None:
        """Take the chunk; it is on disk within 50 ms and a commit. FenceLostError, StoreError: also those of an earlier chunk."""
        self._check()
        batch = self._logs.batch_of(self, self._end)
        batch.add(chunk)
        self._end, self.position = batch.end, chunk.position
        if batch.end - batch.start >= CHUNK_BYTES:
            await self._logs.write_now(batch)
            self._check()

    async def close(self, *, complete: bool = True) -> None:
        """Write what is left and, if `complete`, mark the log as such. May be called again."""
        if self._closed:
            return
        try:
            self._check()
            if complete:
                self._logs.batch_of(self, self._end).complete = True
            if self.latest is not None:
                await self._logs.write_now(self.latest)
            self._check()
        finally:
            self._closed = True

    def note(self, batch: _Batch, error: StoreError | None) -> None:
        """Learn what became of a batch. After an error what came since would leave a gap: it has to be read again."""
        if error is None:
            self._written = batch.end, batch.position
        else:
            self._failure = error
            self._end, self.position = self._written

    def _check(self) -> None:
        if self._closed:
            raise StoreError(f"the log of {self.key.text} is closed")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure


async def _append(connection: Connection, batches: list[_Batch]) -> dict[int, StoreError]:
    """Write the batches and return what is wrong with some, by log. A repetition finds what it has written already."""
    values = (
        [batch.writer.number for batch in batches],
        [batch.writer.writer for batch in batches],
        [batch.start for batch in batches],
        [batch.position for batch in batches],
        [batch.complete for batch in batches],
        [b"".join(_TIME.pack(*time) for time in batch.times) for batch in batches],
        [b"".join(batch.parts) for batch in batches],
    )
    moved = {number for (number,) in await (await connection.execute(SQL["append"], values)).fetchall()}
    missed = [batch for batch in batches if batch.writer.number not in moved]
    if not missed:
        return {}
    found = await connection.execute(SQL["select_ends"], ([batch.writer.number for batch in missed],))
    ends = {number: rest for number, *rest in await found.fetchall()}
    return {
        batch.writer.number: error
        for batch in missed
        if (error := _explain(batch, ends.get(batch.writer.number))) is not None
    }


def _explain(batch: _Batch, end: list[Any] | None) -> StoreError | None:
    """Return why the batch was not written; None if it is there, written by a statement whose answer was lost."""
    writer = batch.writer
    if end is None:
        return StoreError(f"the log of {writer.key.text} was deleted while it was written")
    if end[0] != writer.writer:
        return FenceLostError(f"the log of {writer.key.text} is written by another process now")
    if end[1:] != [batch.end, batch.complete]:
        return StoreError(f"the log of {writer.key.text} ends at byte {end[1]}, not at {batch.start}")
    return None


def _parts(start: int, times: bytes, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the parts of a chunk, each with the time it came, in microseconds."""
    begun = start
    for at, end in _TIME.iter_unpack(times):
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
