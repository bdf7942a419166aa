"""The outbox on a real store and a real RabbitMQ: whatever was accepted is in the queue in the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from stretto.doors.amqp.outbox import Outbox, Rhythm
from stretto.doors.amqp.publisher import Publisher
from stretto.store.sqlite import SqliteStore
from tests.support.queue import Broker, StoreWork, Wire, submit, until

from .conftest import consuming, publishing

pytestmark = pytest.mark.rabbitmq

SOON = Rhythm(every_s=0.05, untold_s=0.1, again_s=0.3)
LATER = Rhythm(every_s=3600.0)
"""No sweep within a test."""


@asynccontextmanager
async def telling(store: SqliteStore, publisher: Publisher, rhythm: Rhythm) -> AsyncIterator[Outbox]:
    """An outbox that runs."""
    outbox = Outbox(store, publisher, rhythm=rhythm)
    running = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def told(broker: Broker) -> list[str]:
    """Take all messages and return the runs they tell of."""
    return sorted(json.loads(message.body)["run"] for message in await broker.take())


async def test_tell_publishes_and_marks(broker: Broker, store: SqliteStore) -> None:
    """What was accepted is in the queue at once, and is marked so that no sweep finds it."""
    async with publishing(broker) as publisher, telling(store, publisher, LATER) as outbox:
        run_ids = await submit(store, 3)
        outbox.tell(run_ids)
        await until(lambda: _left(store, 0), "marks")
    assert await told(broker) == sorted(run_ids)


async def test_sweep_finds_what_its_process_never_told(broker: Broker, store: SqliteStore) -> None:
    """A run whose API server died between commit and publication is told of by another process, once, without help."""
    run_ids = await submit(store, 450)
    async with publishing(broker) as publisher, telling(store, publisher, SOON):
        await until(lambda: _left(store, 0), "marks")
        await asyncio.sleep(3 * SOON.every_s)
    assert await told(broker) == sorted(run_ids)


async def test_runs_accepted_while_the_broker_is_away_are_told_of_later(
    broker: Broker, wire: Wire, store: SqliteStore
) -> None:
    """Telling fails without harm to who accepts; all is in the queue soon after the broker is back."""
    async with publishing(broker, wire.url, wait_s=0.1) as publisher, telling(store, publisher, SOON) as outbox:
        wire.cut()
        await until(lambda: publisher.trouble, "trouble")
        run_ids = []
        for _ in range(20):
            (run_id,) = await submit(store, 1)
            outbox.tell([run_id])
            run_ids.append(run_id)
        await asyncio.sleep(0.3)
        assert await _left(store, 20)
        wire.mend()
        await until(lambda: _left(store, 0), "marks")
    assert set(await told(broker)) == set(run_ids)


async def test_run_whose_message_was_lost_is_told_of_again(broker: Broker, store: SqliteStore) -> None:
    """A queue that a person emptied holds the undefined runs again after a while, and they are defined once."""
    run_ids = await submit(store, 5)
    async with publishing(broker) as publisher, telling(store, publisher, SOON):
        await until(lambda: _left(store, 0), "marks")
        await broker.take()
        work = StoreWork(store)
        async with consuming(broker, work):
            await until(lambda: len(work.defined) == 5, "definition of all")
    assert work.defined == dict.fromkeys(run_ids, 1)


async def test_backlog_is_not_told_of_again(broker: Broker, store: SqliteStore) -> None:
    """While messages wait that nobody has room for, none is added, however long they wait."""
    run_ids = await submit(store, 300)
    async with publishing(broker) as publisher:
        outbox = Outbox(store, publisher, rhythm=Rhythm(untold_s=0.0, again_s=0.0))
        assert await outbox.sweep() == 300
        for _ in range(3):
            assert await outbox.sweep() == 0
        (late,) = await submit(store, 1)
        assert await outbox.sweep() == 1
    assert await told(broker) == sorted([*run_ids, late])


async def test_defined_and_ended_runs_are_left_alone(broker: Broker, store: SqliteStore) -> None:
    """Only undefined runs that are not over are the queue's business."""
    defined, given_up = await submit(store, 2)
    work = StoreWork(store)
    await work.take(defined)
    await work.give_up(given_up, "no use")
    async with publishing(broker) as publisher:
        assert await Outbox(store, publisher, rhythm=Rhythm(untold_s=0.0, again_s=0.0)).sweep() == 0


async def _left(store: SqliteStore, count: int) -> bool:
    return len(await store.unpublished(older_than_s=0.0, again_after_s=1e9, limit=1000)) == count
