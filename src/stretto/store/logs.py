"""Logs: per attempt one file with the bytes as they came, and beside it an index of when they came.

The index is a row of fixed-size records (time of the first byte, end in the file, position in the driver's stream), each
written after the bytes it is about. What no whole record speaks of does not exist: readers stop before it, and the next writer
cuts it off.
No sync: `kill -9` can't lose what the kernel has, and after a power cut the driver replays from the last whole record.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from stretto.core.errors import StoreError
from stretto.core.ports import LogChunk
from stretto.core.spec import AttemptKey
from stretto.store.failure import os_error
from stretto.store.place import attempt_path, remove_tree, run_directory
from stretto.store.rows import micros, moment

T = TypeVar("T")

_RECORD: Final = struct.Struct("<qqq")
_COMPLETE: Final = -1
"""In place of a time: the log is complete."""
_FLUSH_BYTES: Final = 64 * 1024
_FLUSH_S: Final = 0.05
"""How long what came may stay in memory: short for who looks on; a job that prints single bytes costs 20 writes a second."""
_SAME_TIME_US: Final = 1_000
"""Chunks that came within a millisecond share a record."""
_READ_BYTES: Final = 256 * 1024
_POLL_S: Final = (0.005, 0.1)
"""A follower looks after the first, then after twice as long each time nothing came, up to the second."""


@dataclass(slots=True)
class _Record:
    at: int
    end: int
    position: int

    def pack(self) -> bytes:
        return _RECORD.pack(self.at, self.end, self.position)


async def _never() -> bool:
    return False


class FileLogs:
    """A `LogStore` under one directory. One writer per log at a time; any number of readers in any process."""

    def __init__(self, root: Path) -> None:
        self._root = root
        # one thread for all writes: they stay in order, whatever becomes of the task that waits for one
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stretto-logs")

    async def open(self, key: AttemptKey) -> FileLogWriter:
        """Open the attempt's log to write on; after a crash it goes on where the last complete write ended."""
        writer = FileLogWriter(attempt_path(self._root, key), self._thread)
        await writer.open()
        return writer

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
        path = attempt_path(self._root, key)
        pause_s, seen = _POLL_S[0], False
        while True:
            over = not seen and follow and await is_over()
            last = await asyncio.to_thread(_last_record, path)
            if last is None and (seen or over):
                return
            seen = last is not None
            while last is not None and offset < last.end:
                data = await asyncio.to_thread(_read_bytes, path, offset, min(_READ_BYTES, last.end - offset))
                if not data:
                    return
                offset += len(data)
                pause_s = _POLL_S[0]
                yield data
            if not follow or (last is not None and last.at == _COMPLETE):
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _POLL_S[1])

    async def size(self, key: AttemptKey) -> int:
        """Return how many bytes can be read of the log now; 0 where there is none."""
        last = await asyncio.to_thread(_last_record, attempt_path(self._root, key))
        return 0 if last is None else last.end

    async def lines(self, key: AttemptKey) -> list[tuple[datetime, bytes]]:
        """Return the log's lines, without line ends, each with the time its first byte came."""
        return await asyncio.to_thread(_read_lines, attempt_path(self._root, key))

    async def delete(self, run_id: str) -> int:
        """Delete the run's logs and return how many bytes that freed."""
        return await asyncio.to_thread(remove_tree, run_directory(self._root, run_id))


class FileLogWriter:
    """The one writer of an attempt's log.

    `position` takes in what is still in memory. After an `append` or `close` that failed, it is where the file stands, and the
    driver's stream may be read from there again.
    """

    def __init__(self, path: Path, thread: ThreadPoolExecutor) -> None:
        self.position = 0
        self._path = path
        self._thread = thread
        self._data: list[bytes] = []
        self._records: list[_Record] = []
        self._buffered = 0
        self._start = self._end = 0
        self._written, self._count = _Record(0, 0, 0), 0
        self._timer: asyncio.TimerHandle | None = None
        self._failure: StoreError | None = None
        self._files: tuple[int, int] | None = None
        self._closed = False
        self._flushes: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Open the files there are and cut off what is not whole; a new log gets its files with its first bytes."""
        if _index_path(self._path).exists():
            await self._in_thread(self._open)
            self._start = self._end = self._written.end
            self.position = self._written.position

    async def append(self, chunk: LogChunk) -> None:
        """Take the chunk; it is in the file within 50 ms. DiskFullError, StoreError: also those of an earlier chunk."""
        self._check()
        self._end += len(chunk.data)
        self._buffered += len(chunk.data)
        self.position = chunk.position
        at = micros(chunk.at)
        self._data.append(chunk.data)
        if self._records and at - self._records[-1].at < _SAME_TIME_US:
            self._records[-1].end, self._records[-1].position = self._end, chunk.position
        else:
            self._records.append(_Record(at, self._end, chunk.position))
        if self._buffered >= _FLUSH_BYTES:
            await self._flush()
            self._check()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self._flush_soon)

    async def close(self, *, complete: bool = True) -> None:
        """Write what is left and, if `complete`, mark the log as such. May be called again."""
        if self._closed:
            return
        try:
            await self._flush()
            self._check()
            if complete and self._files is not None:
                self._records.append(_Record(_COMPLETE, self._end, self.position))
                await self._flush()
                self._check()
        finally:
            self._closed = True
            if self._files is not None:
                await self._in_thread(self._close)

    # -------------------------------------------------------------------------------------------- in the loop's thread

    def _check(self) -> None:
        if self._closed:
            raise StoreError(f"the log {self._path} is closed")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _flush_soon(self) -> None:
        task = asyncio.create_task(self._flush(), name="flush-log")
        self._flushes.add(task)
        task.add_done_callback(self._flushes.discard)

    async def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        start, data, records = self._start, b"".join(self._data), self._records
        self._data, self._records, self._buffered, self._start = [], [], 0, self._end
        if not records:
            return
        try:
            await self._in_thread(self._write, start, data, records)
        except StoreError as error:
            # what came meanwhile would leave a gap: it goes too, and the driver's stream is read again from `position`
            self._data, self._records, self._buffered = [], [], 0
            self._start = self._end = self._written.end
            self.position = self._written.position
            self._failure = error

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except OSError as error:
            raise os_error(self._path, error) from error

    # ------------------------------------------------------------------------------------------- in the writing thread

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        data = os.open(_data_path(self._path), flags, 0o644)
        try:
            index = os.open(_index_path(self._path), flags, 0o644)
        except OSError:
            os.close(data)
            raise
        self._files = data, index
        size = os.fstat(data).st_size
        self._count = os.fstat(index).st_size // _RECORD.size
        while self._count:
            record = _record(index, self._count - 1)
            if record.at != _COMPLETE and record.end <= size:
                self._written = record
                break
            self._count -= 1
        self._cut()

    def _write(self, start: int, data: bytes, records: list[_Record]) -> None:
        if start != self._written.end:
            return  # what came before it could not be written
        if self._files is None:
            self._open()
        assert self._files is not None
        try:
            _write_at(self._files[0], data, start)
            _write_at(self._files[1], b"".join(record.pack() for record in records), self._count * _RECORD.size)
        except OSError:
            self._cut()
            raise
        self._written, self._count = records[-1], self._count + len(records)

    def _cut(self) -> None:
        assert self._files is not None
        os.ftruncate(self._files[0], self._written.end)
        os.ftruncate(self._files[1], self._count * _RECORD.size)

    def _close(self) -> None:
        if self._files is not None:
            files, self._files = self._files, None
            for file in files:
                os.close(file)


def _data_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.log")


def _index_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.index")


def _write_at(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _record(index: int, number: int) -> _Record:
    return _Record(*_RECORD.unpack(os.pread(index, _RECORD.size, number * _RECORD.size)))


def _last_record(path: Path) -> _Record | None:
    """Return the last whole record, one at zero for a log without any, None where there is no log."""
    try:
        index = os.open(_index_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise os_error(path, error) from error
    try:
        count = os.fstat(index).st_size // _RECORD.size
        return _record(index, count - 1) if count else _Record(0, 0, 0)
    finally:
        os.close(index)


def _read_bytes(path: Path, offset: int, count: int) -> bytes:
    try:
        with _data_path(path).open("rb") as file:
            file.seek(offset)
            return file.read(count)
    except FileNotFoundError:
        return b""  # deleted meanwhile
    except OSError as error:
        raise os_error(path, error) from error


def _read_lines(path: Path) -> list[tuple[datetime, bytes]]:
    last = _last_record(path)
    if last is None or not last.end:
        return []
    lines, start = [], 0
    try:
        with _index_path(path).open("rb") as index, _data_path(path).open("rb") as data:
            record = _Record(*_RECORD.unpack(index.read(_RECORD.size)))
            while start < last.end and (line := data.readline(last.end - start)):
                while record.end <= start:
                    record = _Record(*_RECORD.unpack(index.read(_RECORD.size)))
                lines.append((moment(record.at), line.removesuffix(b"\n").removesuffix(b"\r")))
                start += len(line)
    except FileNotFoundError:
        return []  # deleted meanwhile
    except OSError as error:
        raise os_error(path, error) from error
    return lines
