"""The one that writes: group commit over one connection, for all tasks of a process.

There is no time window. While one transaction runs, everything that is asked for piles up; the next one takes it all, and every
caller goes on when its group is on disk. One group is under way at a time, so no two threads ever use the connection at once.

Waking a thread and being woken by it costs a chain of jobs a quarter more time where syncs are quick. So, as long as they are, a
group of appends is written where it stands, in the loop's thread; as soon as the disk turns out slower, groups go to the thread.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from stretto.core.errors import DiskFullError, StoreError, StrettoError
from stretto.store.failure import is_busy, is_of_the_place, store_error
from stretto.store.reserve import Reserve

log = logging.getLogger(__name__)

PATIENCE_S: Final = 30.0
"""How long a group waits for another process to end its transaction. Ours take milliseconds, a deletion perhaps a second."""
_RETRY_S: Final = (0.0005, 0.005)
"""Between two tries for the lock: as short as the gaps that other processes leave, and random, so that all get a turn."""
_DIRECT_S: Final = 0.004
"""A group is written in the loop's thread as long as one takes less than this on average, and so no other task waits long."""
_WEIGHT: Final = 0.1
"""Of the latest group in that average: one slow sync tells little of the next, ten in a row do."""
_DIRECT_APPENDS: Final = 256
"""More appends than this go to the thread however quick the disk is."""


class Work:
    """Something to write. `act` runs within a transaction; a StrettoError it raises must have changed nothing."""

    __slots__ = ("act", "error", "future", "result")

    def __init__(self, act: Callable[[sqlite3.Connection], Any]) -> None:
        self.act = act
        self.future: asyncio.Future[Any]
        self.result: Any = None
        self.error: Exception | None = None


class Append(Work):
    """The events of one commit. Appends that follow each other are written together by the writer's `append`."""

    __slots__ = ("payload",)

    def __init__(self, payload: Any) -> None:
        self.payload = payload
        self.error = None
        self.result = None


class Writer:
    """Writes for the tasks of one event loop. `append` writes a list of appends, marking those refused with their error."""

    def __init__(
        self,
        path: Path,
        connect: Callable[[], sqlite3.Connection],
        append: Callable[[sqlite3.Connection, Sequence[Append]], None],
    ) -> None:
        self._path = path
        self._append = append
        self._connect = connect
        self._reserve = Reserve(path)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Work] = []
        self._scheduled = False
        self._in_thread = False
        self._closing = False
        self._average_s = 0.0
        self._batches: SimpleQueue[list[Work] | None] = SimpleQueue()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._connection: sqlite3.Connection
        self._thread = threading.Thread(target=self._serve, name="stretto-store-writer", daemon=True)

    async def open(self) -> None:
        """Start the thread and let it open the store."""
        self._thread.start()
        await self._opened

    async def write(self, work: Work) -> Any:
        """Return what the work gave once it is on disk. One that is cancelled meanwhile may be written all the same."""
        if self._closing:
            raise StoreError(f"{self._path} is closed")
        work.future = self._loop.create_future()
        self._waiting.append(work)
        self._schedule()
        return await work.future

    async def close(self) -> None:
        """Write what was accepted, then close the connection. May be called again."""
        if not self._closing:
            self._closing = True
            if not self._waiting and not self._in_thread:
                self._batches.put(None)
        await asyncio.shield(self._ended)

    # ------------------------------------------------------------------------------------------- in the loop's thread

    def _schedule(self) -> None:
        if not self._scheduled and not self._in_thread:
            self._scheduled = True
            self._loop.call_soon(self._dispatch)  # tasks that are ready now still get into this group

    def _dispatch(self) -> None:
        self._scheduled = False
        batch, self._waiting = self._waiting, []
        direct = self._average_s < _DIRECT_S and len(batch) <= _DIRECT_APPENDS
        if direct and all(type(work) is Append for work in batch) and self._write_group(batch, patience_s=0.0):
            self._finish(batch)
        else:
            self._in_thread = True
            self._batches.put(batch)

    def _finish(self, batch: list[Work]) -> None:
        for work in batch:
            if work.future.done():  # its task was cancelled
                continue
            if work.error is not None:
                work.future.set_exception(work.error)
            else:
                work.future.set_result(work.result)
        if self._closing and not self._waiting and not self._in_thread:
            self._batches.put(None)

    def _finish_from_thread(self, batch: list[Work]) -> None:
        self._in_thread = False
        self._finish(batch)
        if self._waiting:
            self._schedule()

    # ------------------------------------------------------------------------------------------ in the writer's thread

    def _serve(self) -> None:
        try:
            self._connection = self._connect()
        except Exception as error:
            self._tell(self._opened.set_exception, error)
            return
        self._reserve.hold()
        self._tell(self._opened.set_result, None)
        while (batch := self._batches.get()) is not None:
            self._write_group(batch, patience_s=PATIENCE_S)
            self._tell(self._finish_from_thread, batch)
        try:
            self._connection.close()
        except sqlite3.Error:
            pass  # all is on disk; what is left in the log moves when the store is opened next
        self._tell(self._ended.set_result, None)

    def _tell(self, call: Callable[[Any], object], argument: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, argument)
        except RuntimeError:
            pass  # the loop was closed without closing the store: nobody is left to tell

    # ---------------------------------------------------------------------- in the one thread whose turn it is to write

    def _write_group(self, batch: list[Work], patience_s: float) -> bool:
        """Write the batch in one transaction, or, if that fails, its parts one by one.

        Without patience only the first is tried: False means that nothing was done.
        """
        began = time.perf_counter()
        try:
            self._begin(patience_s)
            began = time.perf_counter()
            self._act(batch)
            self._connection.execute("COMMIT")
        except Exception as error:
            self._roll_back()
            for work in batch:
                work.error = None
            if patience_s == 0.0:
                return False
            self._write_apart(batch, error, patience_s)
        self._average_s += _WEIGHT * (time.perf_counter() - began - self._average_s)
        return True

    def _write_apart(self, batch: list[Work], error: Exception, patience_s: float) -> None:
        """After a group failed, write its parts one by one, so that only those suffer that can't be written.

        On a full disk what was held back is used for runs that are under way, not for new ones.
        """
        if (
            any(type(work) is Append for work in batch)
            and isinstance(store_error(self._path, error), DiskFullError)
            and self._reserve.release()
        ):
            log.warning("the disk is full; what was held back for it is used", extra={"store": str(self._path)})
            self._write_group(batch, patience_s)
        elif len(batch) == 1 or is_of_the_place(error):
            for work in batch:
                work.error = self._mapped(error)  # one each: an exception raised in several tasks garbles its traceback
        else:
            for work in batch:
                self._write_group([work], patience_s)

    def _mapped(self, error: Exception) -> StoreError:
        mapped = store_error(self._path, error)
        mapped.__cause__ = error
        return mapped

    def _begin(self, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(random.uniform(*_RETRY_S))
            else:
                return

    def _act(self, batch: Sequence[Work]) -> None:
        appends: list[Append] = []
        for work in batch:
            if isinstance(work, Append):
                appends.append(work)
                continue
            if appends:
                self._append(self._connection, appends)
                appends = []
            try:
                work.result = work.act(self._connection)
            except StrettoError as error:
                work.error = error
        if appends:
            self._append(self._connection, appends)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite ends it by itself after some errors
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                pass  # the error that brought us here says more
