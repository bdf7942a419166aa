"""Queues, a store and running parts for the tests of the door for messages."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stretto.doors.amqp.consumer import Consumer, Pace
from stretto.doors.amqp.publisher import Publisher
from stretto.store.sqlite import SqliteStore
from tests.support.queue import Broker, StoreWork, Wire, until

QUICK = Pace(first_pause_s=0.02, longest_pause_s=0.1, room_s=0.05, drain_s=2.0)


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    """Queues of the test's own."""
    found = Broker(os.environ["STRETTO_TEST_RABBITMQ"])
    yield found
    await found.clean()


@pytest.fixture
async def wire(broker: Broker) -> AsyncIterator[Wire]:
    """A way to the broker that can be cut."""
    made = Wire(broker.url)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A store."""
    opened = await SqliteStore.open(tmp_path / "stretto.db")
    yield opened
    await opened.close()


@asynccontextmanager
async def publishing(broker: Broker, url: str = "", **options: Any) -> AsyncIterator[Publisher]:
    """A publisher that runs, connected."""
    publisher = Publisher(url or broker.url, names=broker.names, **options)
    running = asyncio.create_task(publisher.run())
    try:
        await until(lambda: publisher.trouble is None, "connection")
        yield publisher
    finally:
        publisher.stop()
        await running


@asynccontextmanager
async def consuming(
    broker: Broker, work: StoreWork, url: str = "", *, pace: Pace = QUICK, prefetch: int = 32
) -> AsyncIterator[Consumer]:
    """A consumer that runs, connected, with a publisher of its own."""
    async with publishing(broker, url) as publisher:
        consumer = Consumer(url or broker.url, publisher, work, names=broker.names, pace=pace, prefetch=prefetch)
        running = asyncio.create_task(consumer.run())
        try:
            await until(lambda: consumer.trouble is None, "connection")
            yield consumer
        finally:
            consumer.stop()
            await running
