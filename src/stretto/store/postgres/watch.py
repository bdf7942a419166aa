"""How processes tell each other that something was written: NOTIFY after a commit, LISTEN, and a look now and then behind it.

NOTIFY takes a lock that all commits of the server's databases wait for (PostgreSQL, `PreCommit_Notify`), so it is never part of a
transaction that writes, and many changes make one.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Final
from weakref import WeakKeyDictionary

import psycopg

from stretto.store.postgres.append import SQL
from stretto.store.postgres.database import Connection, Database

log = logging.getLogger(__name__)

_EVERY_S: Final = 0.02
"""Changes are told at once, but no more often than this: more would only make everybody read the same again."""
_LOOK_S: Final = 2.0
"""How often the write-ahead log's end is looked at: should a notification be lost, nobody waits longer."""
_LOOK_BACK_S: Final = 0.1
"""To a task that waits for the first time a change so long ago counts: it may have come after the task last read."""


class Watch:
    """Changes of one schema, made by this process (`tell`) or another. Used by the tasks of one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._name = secrets.token_hex(8)  # by which we know our own notifications: we were woken before they were sent
        self._channel = ""
        self._log_end = ""
        self._changes = 0
        self._changed_at = float("-inf")
        self._seen: WeakKeyDictionary[asyncio.Task[object], tuple[int, float]] = WeakKeyDictionary()
        self._woken = asyncio.Event()
        self._told = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, connection: Connection) -> None:
        """Begin to listen and to tell; the connection is kept for that."""
        await self._listen(connection)
        self._tasks = [
            asyncio.create_task(self._hear(connection), name="stretto-store-listener"),
            asyncio.create_task(self._notify(), name="stretto-store-notifier"),
        ]

    async def close(self) -> None:
        """Stop both. May be called again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def tell(self) -> None:
        """Something was written here and is on disk: wake those who wait, in this process and, soon, in others."""
        self._note()
        self._told.set()

    async def wait(self, timeout_s: float) -> bool:
        """Return True as soon as anything may have been written since this task last came back; False after the time-out."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # we are in one
        deadline = loop.time() + timeout_s
        seen, came_back_at = self._seen.get(task, (self._changes, float("-inf")))
        if task not in self._seen and self._changed_at > loop.time() - _LOOK_BACK_S:
            seen -= 1
        while self._changes == seen and loop.time() < deadline:
            woken = self._woken
            try:
                async with asyncio.timeout_at(deadline):
                    await woken.wait()
            except TimeoutError:
                pass
        changed = self._changes != seen
        if changed and (pause_s := came_back_at + _EVERY_S - loop.time()) > 0:
            await asyncio.sleep(min(pause_s, max(0.0, deadline - loop.time())))
        self._seen[task] = (self._changes, loop.time())
        return changed

    def _note(self) -> None:
        self._changes += 1
        self._changed_at = asyncio.get_running_loop().time()
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()

    async def _notify(self) -> None:
        """Send one notification for all that was told meanwhile, again and again."""
        while True:
            await self._told.wait()
            self._told.clear()  # before sending: what is told from now on takes another one
            try:
                await self._database.call(lambda it: it.execute(SQL["notify"], (self._channel, self._name)))
            except Exception as error:
                log.warning("a change was not told to others, who will look by themselves", extra={"error": str(error)})
            await asyncio.sleep(_EVERY_S)

    async def _hear(self, connection: Connection) -> None:
        """Take notifications as they come; look at the log's end when none does; connect anew when the server went away."""
        try:
            while True:
                try:
                    heard = [it.payload async for it in connection.notifies(timeout=_LOOK_S, stop_after=1)]
                    if any(sender != self._name for sender in heard) or (not heard and await self._look(connection)):
                        self._note()
                except (psycopg.Error, OSError) as error:
                    log.warning("changes by others are not heard of", extra={"error": str(error)})
                    await connection.close()
                    connection = await self._database.connect_again(self._listen)
                    self._note()  # whatever came meanwhile
        finally:
            await connection.close()

    async def _listen(self, connection: Connection) -> None:
        row = await (await connection.execute(SQL["select_channel"])).fetchone()
        assert row is not None  # a query without FROM
        self._channel, self._log_end = row
        await connection.execute(f"LISTEN {self._channel}".encode())

    async def _look(self, connection: Connection) -> bool:
        """Return whether anything at all was written to the server since the last look."""
        row = await (await connection.execute(SQL["select_log_end"])).fetchone()
        assert row is not None  # a query without FROM
        before, self._log_end = self._log_end, row[0]
        return before != self._log_end
