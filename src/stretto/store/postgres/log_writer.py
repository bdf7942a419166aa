"""Writes logs to a PostgreSQL database, those of all jobs of a process together.

What came within 50 ms, of however many logs, is one statement: a busy process costs the database some twenty commits a second. A
batch and the row that says where its log ends are one transaction, so that there is no half-written end to cut off.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from stretto.core.errors import FenceLostError, StoreError
from stretto.core.ports import LogChunk
from stretto.core.spec import AttemptKey
from stretto.store.postgres.database import Connection, Database
from stretto.store.query import read_queries
from stretto.store.rows import micros

log = logging.getLogger(__name__)

SQL: Final = read_queries("postgres_logs")
TIME: Final = struct.Struct("<qq")
"""When something came (microseconds since 1970) and where in the log it ends."""

_CHUNK_BYTES: Final = 256 * 1024
"""A batch of one log is written when it has so much, or is 50 ms old."""
_FLUSH_S: Final = 0.05
_STATEMENT_BYTES: Final = 4 * 1024 * 1024
"""What one statement holds at most, but for its last batch."""
_SAME_TIME_US: Final = 1_000
"""Chunks that came within a millisecond share a time."""
_CLOSE_S: Final = 10.0
"""How long the last batches may take when a process ends; drivers have what is missing still."""


class Batch:
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


class Batches:
    """What waits to be written, by log. Used by the tasks of one event loop."""

    def __init__(self, database: Database, tell: Callable[[Iterable[str]], None]) -> None:
        """`tell` is called with the keys of logs that have grown, as text."""
        self._database = database
        self._tell = tell
        self._waiting: dict[PostgresLogWriter, Batch] = {}
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._flusher: asyncio.Task[None] | None = None
        self._closing = False

    async def close(self) -> None:
        """Write what waits, for ten seconds at most. May be called again."""
        if self._flusher is None:
            return
        self._closing = True
        self._wake.set()
        await asyncio.wait([self._flusher], timeout=_CLOSE_S)
        self._flusher.cancel()
        await asyncio.gather(self._flusher, return_exceptions=True)
        self._flusher = None

    def batch_of(self, writer: PostgresLogWriter, start: int) -> Batch:
        """Return the batch that what comes next belongs to; it is written within 50 ms."""
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush(), name="stretto-log-writer")
        if writer not in self._waiting:
            self._waiting[writer] = writer.latest = Batch(writer, start)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self._wake.set)
        return self._waiting[writer]

    async def write_now(self, batch: Batch) -> None:
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

    async def _write(self, batches: list[Batch]) -> None:
        """Write the batches; each learns for itself how that went. A server that is away is waited for."""
        writers = [batch.writer for batch in batches]
        failures = dict.fromkeys(writers, StoreError("the process ended before the output was written"))
        patience_s = self._database.patience.commit_s
        try:
            failures = await self._database.call(lambda connection: _append(connection, batches), patience_s=patience_s)
        except StoreError as error:
            failures = dict.fromkeys(writers, error)
        except Exception as error:  # whoever waits must not do so for ever
            log.exception("output not written")
            failures = dict.fromkeys(writers, StoreError(f"the output can't be written: {error}"))
        finally:
            for batch in batches:
                self._settle(batch, failures.get(batch.writer))
        if written := [batch.writer.key.text for batch in batches if batch.writer not in failures]:
            self._tell(written)

    def _settle(self, batch: Batch, error: StoreError | None) -> None:
        batch.writer.note(batch, error)
        batch.done.set_result(None)
        if error is not None and (later := self._waiting.pop(batch.writer, None)) is not None:
            later.done.set_result(None)  # it would leave a gap; the writer has the error


class PostgresLogWriter:
    """The one writer of an attempt's log; after an error `position` is where the log stands on disk."""

    def __init__(
        self, batches: Batches, key: AttemptKey, number: int, writer: int, size_bytes: int, position: int
    ) -> None:
        self.key = key
        self.number = number
        self.writer = writer
        self.position = position
        self.latest: Batch | None = None
        """What was begun last: when it is done, all is."""
        self._batches = batches
        self._end = size_bytes
        self._written = size_bytes, position
        self._failure: StoreError | None = None
        self._closed = False

    async def append(self, chunk: LogChunk) -> None:
        """Take the chunk; it is on disk within 50 ms and a commit. FenceLostError, StoreError: also those of an earlier chunk."""
        self._check()
        batch = self._batches.batch_of(self, self._end)
        batch.add(chunk)
        self._end, self.position = batch.end, chunk.position
        if batch.end - batch.start >= _CHUNK_BYTES:
            await self._batches.write_now(batch)
            self._check()

    async def close(self, *, complete: bool = True) -> None:
        """Write what is left and, if `complete`, mark the log as such. May be called again."""
        if self._closed:
            return
        try:
            self._check()
            if complete:
                self._batches.batch_of(self, self._end).complete = True
            if self.latest is not None:
                await self._batches.write_now(self.latest)
            self._check()
        finally:
            self._closed = True

    def note(self, batch: Batch, error: StoreError | None) -> None:
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


async def _append(connection: Connection, batches: list[Batch]) -> dict[PostgresLogWriter, StoreError]:
    """Write the batches and return what is wrong with some. A repetition finds what it has written already."""
    values = (
        [batch.writer.number for batch in batches],
        [batch.writer.writer for batch in batches],
        [batch.start for batch in batches],
        [batch.position for batch in batches],
        [batch.complete for batch in batches],
        [b"".join(TIME.pack(*time) for time in batch.times) for batch in batches],
        [b"".join(batch.parts) for batch in batches],
    )
    moved = set(await (await connection.execute(SQL["append"], values)).fetchall())
    missed = [batch for batch in batches if (batch.writer.number, batch.writer.writer) not in moved]
    if not missed:
        return {}
    found = await connection.execute(SQL["select_ends"], ([batch.writer.number for batch in missed],))
    ends = {number: rest for number, *rest in await found.fetchall()}
    errors = {batch.writer: _explain(batch, ends.get(batch.writer.number)) for batch in missed}
    return {writer: error for writer, error in errors.items() if error is not None}


def _explain(batch: Batch, end: list[Any] | None) -> StoreError | None:
    """Return why the batch was not written; None if it is there, written by a statement whose answer was lost."""
    writer = batch.writer
    if end is None:
        return StoreError(f"the log of {writer.key.text} was deleted while it was written")
    if end[0] != writer.writer:
        return FenceLostError(f"the log of {writer.key.text} is written by another process now")
    if end[1:] != [batch.end, batch.complete]:
        return StoreError(f"the log of {writer.key.text} ends at byte {end[1]}, not at {batch.start}")
    return None
