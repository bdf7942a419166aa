"""The one that writes a share of the runs: group commit over one connection.

There is no time window. While one statement runs, all commits that are asked for pile up; the next one takes them, and every
caller goes on when its group is on disk. One group is under way at a time, so that a run's events stay in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import psycopg

from stretto.core.errors import StoreError
from stretto.store.batch import Batch
from stretto.store.postgres.append import Append, Known, write_appends
from stretto.store.postgres.database import ANSWER_TIMEOUT_S, Connection, Database, Retry
from stretto.store.postgres.failure import is_away, is_of_the_place

log = logging.getLogger(__name__)

_MAX_GROUP: Final = 1000
"""Commits that one statement writes at most, so that none takes long."""
_NO_SCANS: Final = "SET enable_seqscan = off"
"""A plan is made once and kept: one made while a table was small would read all of it when it is large."""


class Writer:
    """Writes for the tasks of one event loop; `written` is called after each group, `known` is shared with whoever claims."""

    def __init__(self, database: Database, known: Known, written: Callable[[], None]) -> None:
        self._database = database
        self._known = known
        self._written = written
        self._waiting: list[Append] = []
        self._wanted = asyncio.Event()
        self._closing = False
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, name: str) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._serve(), name=name)

    async def write(self, batch: Batch) -> None:
        """Come back when the batch is on disk. One that is cancelled meanwhile may be written all the same."""
        if self._closing:
            raise StoreError(f"{self._database.place} is closed")
        append = Append(batch, asyncio.get_running_loop().create_future())
        self._waiting.append(append)
        self._wanted.set()
        await append.future

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

    async def _write_group(self, group: list[Append]) -> None:
        """Write the group, or, if that fails, its parts one by one, so that only those suffer that can't be written."""
        try:
            await self._write_patiently(group)
        except Exception as error:
            for append in group:
                append.error = None
            if len(group) > 1 and not is_of_the_place(error):
                for append in group:
                    await self._write_group([append])
                return
            if not isinstance(error, psycopg.Error | OSError):
                log.exception("a group of commits failed")
            for append in group:  # one error each: an exception raised in several tasks garbles its traceback
                append.error = self._database.error(error)
                append.error.__cause__ = error

    async def _write_patiently(self, group: list[Append]) -> None:
        """Write the group; while the server is away, or another transaction is in the way, wait and try again.

        Whether a statement whose answer was lost did its work is found out by the next try (`write_appends`). Where there is
        none, nothing more is written under the claims of the group: their owners must claim and load their runs again.
        """
        retry, in_doubt = Retry(self._database.patience.commit_s), False
        while True:
            try:
                connection = await self._connected()
                try:
                    async with asyncio.timeout(ANSWER_TIMEOUT_S):
                        return await write_appends(connection, group, self._known)
                except (psycopg.Error, OSError) as error:
                    in_doubt = in_doubt or is_away(error)
                    raise
            except (psycopg.Error, OSError) as error:
                if is_away(error):
                    log.warning(
                        "the database is away; commits wait for it",
                        extra={"store": self._database.place, "commits": len(group), "error": str(error)},
                    )
                    await self._disconnect()
                if not await retry.pause_after(error):
                    if in_doubt:
                        self._doubt(group)
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

    def _doubt(self, group: list[Append]) -> None:
        for append in group:
            claim = append.batch.claim
            if self._known.get(claim.run_id, (claim.fence, 0))[0] == claim.fence:
                self._known[claim.run_id] = (claim.fence, None)

    def _finish(self, group: list[Append]) -> None:
        for append in group:
            if append.future.done():  # its task was cancelled
                continue
            if append.error is not None:
                append.future.set_exception(append.error)
            else:
                append.future.set_result(None)
        self._written()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
