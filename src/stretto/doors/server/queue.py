"""The message queue of a server process: what the API accepts goes in, what the conductor has room for comes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from stretto.access.repository import permitted
from stretto.core.errors import InputError, RunBusyError
from stretto.doors.amqp.address import check_url
from stretto.doors.amqp.consumer import Consumer
from stretto.doors.amqp.outbox import Outbox
from stretto.doors.amqp.publisher import Publisher
from stretto.doors.amqp.topology import NAMES, Names
from stretto.engine.worker import Worker
from stretto.service import Service
from stretto.settings import Settings
from stretto.waist import RunRequest

_UNDEFINED: Final = """
SELECT 1 FROM submission JOIN run ON run.number = submission.run WHERE run.id = ? AND run.ended_at IS NULL
"""


class Taking:
    """`consumer.Work`, done by the conductor of this process."""

    def __init__(self, service: Service, worker: Worker, settings: Settings) -> None:
        """The settings say which paths of this host and which drivers may be asked for: the same as over HTTP."""
        self._service = service
        self._worker = worker
        self._settings = settings
        self._taking = 0

    def room(self) -> int:
        """Return how many more runs may be taken; one that is being taken may count twice for a moment."""
        return self._worker.room - self._taking

    async def wait_for_room(self) -> None:
        """Come back when the conductor has room."""
        await self._worker.wait_for_room()

    async def take(self, run_id: str) -> None:
        """Have the run claimed and defined; RunBusyError as long as it is not, in whosever hands it is."""
        self._taking += 1
        try:
            await self._worker.take(run_id)
        finally:
            self._taking -= 1
        if await self._service.means.store.tables.read(_UNDEFINED, run_id):
            raise RunBusyError(f"run {run_id} is being compiled elsewhere")

    async def give_up(self, run_id: str, message: str) -> None:
        """End the run, unless it is defined."""
        await self._worker.give_up(run_id, message)

    async def accept(self, request: RunRequest) -> None:
        """Store what is asked for; SourceError, InputError for what may not be."""
        allowed = {self._settings.driver, *self._settings.api.drivers.replace(",", " ").split()}
        if request.driver is not None and request.driver not in allowed:
            raise InputError(f"the driver {request.driver!r} can't be asked for here")
        repository = request.repository
        if repository is not None:
            root = Path(self._settings.api.local_root) if self._settings.api.local_root else None
            repository = await asyncio.to_thread(permitted, repository, local_root=root)
        pipelines = tuple(dict.fromkeys(request.pipelines))
        await self._service.accept(replace(request, repository=repository, pipelines=pipelines, directory=Path("/")))


class Queue:
    """What the rest of the server sees of the queue."""

    def __init__(self, publisher: Publisher, consumer: Consumer | None) -> None:
        self._publisher = publisher
        self._consumer = consumer

    @property
    def trouble(self) -> str | None:
        """What is wrong with the queue, in a sentence; None while it serves. Requests are accepted all the same."""
        return self._publisher.trouble or (None if self._consumer is None else self._consumer.trouble)

    def take_no_more(self) -> None:
        """Leave what is in the queue to others; to be called before the conductor is drained."""
        if self._consumer is not None:
            self._consumer.stop()


@asynccontextmanager
async def queueing(
    settings: Settings, service: Service, worker: Worker | None, *, names: Names = NAMES
) -> AsyncIterator[Queue]:
    """Publish what `service` accepts and, with a worker, have it take what the queue has, until the body ends.

    SettingsError where the setting `queue` is no URL; a queue that is away is waited for.
    """
    url = settings.queue
    check_url(url)
    publisher = Publisher(url, names=names)
    outbox = Outbox(service.means.store, publisher)
    consumer = None
    if worker is not None:
        consumer = Consumer(url, publisher, Taking(service, worker, settings), names=names)
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(publisher.run(), name="queue publisher")
        telling = group.create_task(outbox.run(), name="outbox")
        consuming = None if consumer is None else group.create_task(consumer.run(), name="queue consumer")
        service.announce = outbox.tell
        try:
            yield Queue(publisher, consumer)
        finally:
            service.announce = None
            if consumer is not None and consuming is not None:
                consumer.stop()
                await asyncio.wait([consuming])
            telling.cancel()
            publisher.stop()
            await asyncio.wait([publishing])
