"""Group commit over one connection, for one kind of work: the commits of a share of the runs, submissions, releases.

There is no time window. While one group is written, all that is asked for piles up; the next one takes it, and every caller goes
on when its group is on disk. One group is under way at a time, so that what belongs to one run stays in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import psycopg

from stretto.core.errors import StoreError
from stretto.store.postgres.database import ANSWER_TIMEOUT_S, Connection, Database, Retry
from stretto.store.postgres.failure import is_away, is_of_the_place

log = logging.getLogger(__name__)

P = TypeVar("P")

_MAX_GROUP: Final = 1000
"""How much one statement writes at most, so that none takes long."""
_NO_SCANS: Final = "SET enable_seqscan = off"
"""A plan is made once and kept: one made while a table was small would read all of it when it is large."""


class Work(Generic[P]):
    """Something that waits to be written; then it has a `result`, or an `error` where it was refused.

    `in_doubt` tells that the answer of an earlier try was lost, so that it may be written already.
    """

    __slots__ = ("error", "future", "in_doubt", "payload", "result")

    def __init__(self, payload: P, future: asyncio.Future[Any]) -> None:
        self.payload = payload
        self.future = future
        self.result: Any = None
        self.error: Exception | None = None
        self.in_doubt = False


class Writer(Generic[P]):
    """Writes for the tasks of one event loop.

    `act` writes a group in one transaction and sets the result, or the error, of each; it is called again while the server is
    away, for `patience_s`, so it must find out what was done when `in_doubt`. `written` is called after each group, `gave_up`
    with those that were given up in doubt.
    """

    def __init__(
        self,
        database: Database,
        act: Callable[[Connection, Sequence[Work[P]]], Awaitable[None]],
        *,
        patience_s: float,
        written: Callable[[], None],
        gave_up: Callable[[Sequence[Work[P]]], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._act = act
        self._patience_s = patience_s
        self._written = written
        self._gave_up = gave_up
        self._waiting: list[Work[P]] = []
        self._wanted = asyncio.Event()
        self._closing = False
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, name: str) -> None:
        """Begin to write; it connects when there is something."""
        self._task = asyncio.create_task(self._serve(), name=name)

    async def write(self, payload: P) -> Any:
        """Return the result when it is on disk. One that is cancelled meanwhile may be written all the same."""
        if self._closing:
            raise StoreError(f"{self._database.place} is closed")
        work = Work(payload, asyncio.get_running_loop().create_future())
        self._waiting.append(work)
        self._wanted.set()
        return await work.future

    async def close(self) -> None:
        """Write what was accepted, then let go of the connection. May be called again."""
        self._closing = True
        self._wanted.set()
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _serve(self) -> None:
        while self._waiting or not self._closing:
            await self._wanted.wait()
            self._wanted.clear()
            while self._waiting:
                group, self._waiting = self._waiting[:_MAX_GROUP], self._waiting[_MAX_GROUP:]
                await self._write_group(group)
                self._finish(group)
        await self._disconnect()

    async def _write_group(self, group: Sequence[Work[P]]) -> None:
        """Write the group, or, if that fails, its parts one by one, so that only those suffer that can't be written."""
        try:
            await self._write_patiently(group)
        except Exception as error:
            for work in group:
                work.error = None
            if len(group) > 1 and not is_of_the_place(error):
                for work in group:
                    await self._write_group([work])
                return
            if not isinstance(error, psycopg.Error | OSError):
                log.exception("a group of writes failed")
            for work in group:  # one error each: an exception raised in several tasks garbles its traceback
                work.error = self._database.error(error)
                work.error.__cause__ = error

    async def _write_patiently(self, group: Sequence[Work[P]]) -> None:
        """Write the group; while the server is away, or another transaction is in the way, wait and try again."""
        retry = Retry(self._patience_s)
        while True:
            try:
                connection = await self._connected()
                try:
                    async with asyncio.timeout(ANSWER_TIMEOUT_S):
                        return await self._act(connection, group)
                except (psycopg.Error, OSError) as error:
                    for work in group:
                        work.in_doubt = work.in_doubt or is_away(error)
                    raise
            except (psycopg.Error, OSError) as error:
                if is_away(error):
                    log.warning(
                        "the database is away; writes wait for it",
                        extra={"store": self._database.place, "writes": len(group), "error": str(error)},
                    )
                    await self._disconnect()
                if not await retry.pause_after(error):
                    self._gave_up([work for work in group if work.in_doubt])
                    raise

    async def _connected(self) -> Connection:
        if self._connection is None:
            connection = await self._database.connect()
            try:
                await connection.execute(_NO_SCANS)
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
        return self._connection

    def _finish(self, group: Sequence[Work[P]]) -> None:
        for work in group:
            if work.future.done():  # its task was cancelled
                continue
            if work.error is not None:
                work.future.set_exception(work.error)
            else:
                work.future.set_result(work.result)
        self._written()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
