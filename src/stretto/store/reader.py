"""Reading beside the writer: connections of their own, used in threads, and a cheap look at whether anything was written."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from stretto.core.errors import StoreError
from stretto.store.failure import store_error

T = TypeVar("T")

_TIMEOUT_S: Final = 30.0
"""How long a read waits for a lock. Readers of a write-ahead log need one only while it is recovered after a crash."""
_POLL_S: Final = 0.05
"""How often `wait_for_change` looks. A look is a read of shared memory, some 10 microseconds."""
_LOOK_BACK_S: Final = 0.1
"""A change noticed this long before `wait_for_change` was called may have come after the caller last read."""
_CACHED_STATEMENTS: Final = 64


def connect(path: Path, timeout_s: float) -> sqlite3.Connection:
    """Open a connection whose transactions begin where we say, and that threads may use in turns."""
    return sqlite3.connect(
        path, timeout=timeout_s, isolation_level=None, check_same_thread=False, cached_statements=_CACHED_STATEMENTS
    )


class Reader:
    """Reads for the tasks of one event loop, any number at once; none waits for the writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._watcher: sqlite3.Connection | None = None
        self._version = 0
        self._changed_at = float("-inf")
        self._woken = asyncio.Event()
        self._closed = False

    def open(self) -> None:
        """Begin to notice changes; the file must be there."""
        self._watcher = self._connect(timeout_s=0.0)
        (self._version,) = self._watcher.execute("PRAGMA data_version").fetchone()

    def close(self) -> None:
        """Let go of the file; a read that is still under way does so when it ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    async def read(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `act` reads of a snapshot of the store, in a thread; StoreError, and what `act` raises."""
        if self._closed:
            raise StoreError(f"{self._path} is closed")
        return await asyncio.to_thread(self._read, act)

    def wake(self) -> None:
        """Tell those who wait for a change at once: this process just made one that cannot wait for the next look."""
        self._woken.set()

    async def wait_for_change(self, timeout_s: float) -> bool:
        """Return True as soon as anything may have been written, False after the time-out.

        A change of the last tenth of a second counts too, so that what came between the caller's last read and this call is
        not missed; so one change may be told more than once.
        """
        loop = asyncio.get_running_loop()
        since = loop.time() - _LOOK_BACK_S
        deadline = loop.time() + timeout_s
        self._woken.clear()
        while True:
            try:
                async with asyncio.timeout(max(0.0, min(_POLL_S, deadline - loop.time()))):
                    await self._woken.wait()
            except TimeoutError:
                pass
            if self._woken.is_set() or self._look() > since:
                return True
            if loop.time() >= deadline:
                return False

    def _look(self) -> float:
        """Return when the store was last seen changed (`data_version` moves with every commit of another connection)."""
        if self._watcher is None:
            raise StoreError(f"{self._path} is closed")
        try:
            (version,) = self._watcher.execute("PRAGMA data_version").fetchone()
        except sqlite3.OperationalError:
            return self._changed_at  # locked for recovery just now: look again next time
        if version != self._version:
            self._version, self._changed_at = version, asyncio.get_running_loop().time()
        return self._changed_at

    def _read(self, act: Callable[[sqlite3.Connection], T]) -> T:
        connection = None
        try:
            connection = self._take()
            connection.execute("BEGIN")
            try:
                return act(connection)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise store_error(self._path, error) from error
        finally:
            if connection is not None:
                if self._closed:
                    connection.close()
                else:
                    self._idle.append(connection)

    def _take(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()  # one step, so that no two threads get the same
        except IndexError:
            return self._connect(_TIMEOUT_S)

    def _connect(self, timeout_s: float) -> sqlite3.Connection:
        connection = connect(self._path, timeout_s)
        connection.execute("PRAGMA query_only = ON")
        return connection
