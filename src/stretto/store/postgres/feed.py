"""Tells readers of logs, in this process and others, that a log has grown: LISTEN, and NOTIFY apart from what was written."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from stretto.core.errors import StoreError
from stretto.store.postgres.database import Connection, Database
from stretto.store.query import read_queries

log = logging.getLogger(__name__)

SQL: Final = read_queries("postgres_logs")

_NAME_LENGTH: Final = 12
"""Characters of a log's name in a notification. Two logs with the same one would only wake each other's readers."""
_MOST_NAMES: Final = 600
"""A notification has at most 8,000 bytes; more names than fit are told as `*`, which means any."""
_HEAR_S: Final = 5.0

_Subscriber = tuple[asyncio.Event, Callable[[], None]]


class Feed:
    """News of logs by name. Used by the tasks of one event loop; connects when somebody wants to hear."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channel = ""
        self._subscribers: dict[str, list[_Subscriber]] = {}
        self._untold: set[str] = set()
        self._told = asyncio.Event()
        self._opening = asyncio.Lock()
        self._hearer: asyncio.Task[None] | None = None
        self._teller: asyncio.Task[None] | None = None

    @property
    def is_new(self) -> bool:
        """Whether nothing is heard from other processes yet: that begins with `open`."""
        return self._hearer is None

    async def open(self) -> None:
        """Begin to hear of what other processes write; StoreError. May be called again."""
        async with self._opening:
            if self._hearer is not None:
                return
            connection = await self._database.connect_or_fail()
            try:
                await self._listen(connection)
            except BaseException as error:
                await connection.close()
                if isinstance(error, psycopg.Error):
                    raise self._database.error(error) from error
                raise
            self._hearer = asyncio.create_task(self._hear(connection), name="stretto-log-listener")

    async def close(self) -> None:
        """Stop both ways. May be called again."""
        tasks = [task for task in (self._hearer, self._teller) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._hearer = self._teller = None

    @contextmanager
    def subscribe(self, name: str, changed: Callable[[], None]) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever there is news of the log, after `changed` was called."""
        short, subscriber = _shorten(name), (asyncio.Event(), changed)
        self._subscribers.setdefault(short, []).append(subscriber)
        try:
            yield subscriber[0]
        finally:
            self._subscribers[short].remove(subscriber)
            if not self._subscribers[short]:
                del self._subscribers[short]

    def tell(self, names: Iterable[str]) -> None:
        """These logs have grown, and that is on disk."""
        shorts = {_shorten(name) for name in names}
        self._note(shorts)
        self._untold |= shorts
        self._told.set()
        if self._teller is None:
            self._teller = asyncio.create_task(self._tell(), name="stretto-log-notifier")

    def _note(self, shorts: Iterable[str]) -> None:
        for short in shorts:
            for event, changed in self._subscribers.get(short, ()):
                changed()
                event.set()

    async def _tell(self) -> None:
        """Send one notification for all that grew while the last one was under way."""
        while True:
            await self._told.wait()
            self._told.clear()
            names, self._untold = self._untold, set()
            text = "*" if len(names) > _MOST_NAMES else ",".join(names)
            try:
                await self._database.call(lambda connection, text=text: self._send(connection, text))  # type: ignore[misc]
            except StoreError as error:
                log.warning("readers of logs were not told, and will look by themselves", extra={"error": str(error)})

    async def _send(self, connection: Connection, text: str) -> None:
        if not self._channel:
            await self._find_channel(connection)
        await connection.execute(SQL["notify"], (self._channel, text))

    async def _hear(self, connection: Connection) -> None:
        """Take notifications as they come; connect anew when the server went away."""
        try:
            while True:
                try:
                    async for notice in connection.notifies(timeout=_HEAR_S, stop_after=1):
                        names = list(self._subscribers) if notice.payload == "*" else notice.payload.split(",")
                        self._note(names)
                    await connection.execute("SELECT 1")  # or a server that is gone is noticed late
                except (psycopg.Error, OSError) as error:
                    log.warning("the growth of logs is not heard of", extra={"error": str(error)})
                    await connection.close()
                    connection = await self._database.connect_again(self._listen)
                    self._note(list(self._subscribers))  # whatever came meanwhile
        finally:
            await connection.close()

    async def _listen(self, connection: Connection) -> None:
        await self._find_channel(connection)
        await connection.execute(f"LISTEN {self._channel}".encode())

    async def _find_channel(self, connection: Connection) -> None:
        row = await (await connection.execute(SQL["select_channel"])).fetchone()
        assert row is not None  # a query without FROM
        self._channel = row[0]


def _shorten(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_NAME_LENGTH]
