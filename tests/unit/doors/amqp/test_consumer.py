"""Consuming from a real RabbitMQ into a real store: when a message is acknowledged, and when it is not."""

from __future__ import annotations

import asyncio
import json

import pytest

from stretto.core.errors import StoreError
from stretto.core.states import Reason, Status
from stretto.doors.amqp.consumer import Consumer, Pace
from stretto.doors.amqp.message import encode_run
from stretto.store.sqlite import SqliteStore
from tests.support.queue import Broker, StoreWork, Wire, busy, submit, until

from .conftest import QUICK, consuming, publishing

pytestmark = pytest.mark.rabbitmq


async def all_settled(broker: Broker) -> bool:
    """Say whether no message waits; to be asked when nobody consumes, as those in hand do not count."""
    return await broker.count() == 0


async def test_consumer_defines_each_run_once_and_acknowledges(broker: Broker, store: SqliteStore) -> None:
    """A message is gone when its run is defined; duplicates of it do nothing."""
    run_ids = await submit(store, 20)
    work = StoreWork(store)
    async with publishing(broker) as publisher:
        await publisher.tell([*run_ids, *run_ids, *reversed(run_ids)])
    async with consuming(broker, work):
        await until(lambda: work.calls >= 20 and len(work.defined) == 20, "definition of all")
        await until(lambda: all_settled(broker), "empty queue")
    assert work.defined == dict.fromkeys(run_ids, 1)
    assert await broker.count() == 0
    assert await broker.count(broker.names.dead) == 0


async def test_two_conductors_define_each_run_once(broker: Broker, store: SqliteStore) -> None:
    """Messages that came twice and go to different conductors are decided by the claim."""
    run_ids = await submit(store, 30)
    works = [StoreWork(store, owner="one"), StoreWork(store, owner="two")]
    async with publishing(broker) as publisher, consuming(broker, works[0]), consuming(broker, works[1]):
        await publisher.tell([*run_ids, *run_ids])
        await until(lambda: sum(len(work.defined) for work in works) == 30, "definition of all")
    counts = works[0].defined.keys() & works[1].defined.keys()
    assert not counts
    assert {**works[0].defined, **works[1].defined} == dict.fromkeys(run_ids, 1)
    assert await broker.count(broker.names.dead) == 0


async def test_unusable_messages_become_dead_letters_with_their_reasons(broker: Broker, store: SqliteStore) -> None:
    """What can't be read, is of another schema or names no run is kept with its headers, its id and why."""
    work = StoreWork(store)
    bodies = {
        b"no json": "malformed",
        b'{"schema": "stretto.submission/9"}': "unknown_schema",
        encode_run("f" * 12): "unknown_run",
        b'{"schema": "stretto.submission/1", "request": {}, "idempotency_key": "k"}': "bad_request",
    }
    async with consuming(broker, work):
        for number, body in enumerate(bodies):
            await broker.publish(body, headers={"trace": "t"}, message_id=f"id-{number}")
        await until(lambda: _counts(broker, broker.names.dead, 4), "dead letters")
    dead = await broker.take(broker.names.dead)
    assert {message.body: message.headers["x-stretto-reason"] for message in dead} == bodies
    assert {message.message_id for message in dead} == {f"id-{number}" for number in range(4)}
    assert all(message.headers["trace"] == "t" and message.headers["x-stretto-message"] for message in dead)
    assert await broker.count() == 0


async def test_submission_of_another_program_is_stored_once(broker: Broker, store: SqliteStore) -> None:
    """A whole request is accepted under its key; the same message again stores nothing more."""
    work = StoreWork(store)
    body = json.dumps(
        {"schema": "stretto.submission/1", "request": {"repository": "https://example.test/r.git"}}
    ).encode()
    async with consuming(broker, work):
        for _ in range(3):
            await broker.publish(body, message_id="order-7", user_id="stretto")
        await until(lambda: len(work.accepted) == 3, "three requests")
    (run_id,) = await store.unpublished(older_than_s=0, again_after_s=60, limit=10)
    stored = await store.load(run_id)
    assert stored.request == {"repository": "https://example.test/r.git"}
    assert stored.row.by == "queue:stretto"
    assert await broker.count() == await broker.count(broker.names.dead) == 0


async def test_message_stays_while_the_store_is_away(broker: Broker, store: SqliteStore) -> None:
    """It is held and tried again until the store is back; no copy, no dead letter, no acknowledgement before."""
    (run_id,) = await submit(store, 1)
    back = asyncio.Event()
    tries = 0

    async def before(_: str) -> None:
        nonlocal tries
        tries += 1
        if not back.is_set():
            raise StoreError("the store is away")

    work = StoreWork(store, before=before)
    async with publishing(broker) as publisher, consuming(broker, work):
        await publisher.tell([run_id])
        await until(lambda: tries >= 8, "eighth try")
        assert await broker.count() == 0
        back.set()
        await until(lambda: work.defined, "definition")
    assert work.defined == {run_id: 1}
    assert await broker.count() == await broker.count(broker.names.dead) == 0


async def test_message_held_for_too_long_goes_back_as_a_fresh_copy(broker: Broker, store: SqliteStore) -> None:
    """Before the broker would end the channel a copy, which has not been delivered yet, takes the message's place."""
    (run_id,) = await submit(store, 1)

    async def before(_: str) -> None:
        raise StoreError("the store is away")

    work = StoreWork(store, before=before)
    pace = Pace(first_pause_s=0.02, longest_pause_s=0.05, patience_s=0.2)
    async with publishing(broker) as publisher, consuming(broker, work, pace=pace):
        await publisher.tell([run_id])
        await until(lambda: work.calls >= 30, "several turns")
        work.before = None
        await until(lambda: work.defined, "definition")
    assert await broker.count() == await broker.count(broker.names.dead) == 0


async def test_run_in_the_hands_of_another_is_not_acknowledged(broker: Broker, store: SqliteStore) -> None:
    """While a live conductor has the run and has not defined it the message is kept, in case that one dies."""
    (run_id,) = await submit(store, 1)
    work = StoreWork(store, before=busy(3))
    async with publishing(broker) as publisher, consuming(broker, work):
        await publisher.tell([run_id])
        await until(lambda: work.defined, "definition")
    assert work.calls == 4


async def test_work_that_crashes_ends_the_run_and_buries_the_message(broker: Broker, store: SqliteStore) -> None:
    """After three crashes the run has an end that says so; the message is a dead letter and other runs go on."""
    bad, good = await submit(store, 2)

    async def before(run_id: str) -> None:
        if run_id == bad:
            raise ZeroDivisionError("division by zero")

    work = StoreWork(store, before=before)
    async with publishing(broker) as publisher, consuming(broker, work):
        await publisher.tell([bad, good])
        await until(lambda: _counts(broker, broker.names.dead, 1), "dead letter")
        await until(lambda: work.defined, "definition")
    row = await store.find_run(bad)
    assert (row.status, row.reason) == (Status.FAILED, Reason.ENGINE_FAULT)
    assert "ZeroDivisionError: division by zero" in (row.message or "")
    (dead,) = await broker.take(broker.names.dead)
    assert (dead.body, dead.headers["x-stretto-reason"]) == (encode_run(bad), "crashed")
    assert work.defined == {good: 1}
    assert work.calls == QUICK.tries + 1


async def test_message_that_ten_processes_died_of_is_given_up(broker: Broker, store: SqliteStore) -> None:
    """One that came back as often as `deaths` says is not tried once more: its run ends, it becomes a dead letter."""
    (run_id,) = await submit(store, 1)
    async with publishing(broker) as publisher:
        await publisher.tell([run_id])
    for _ in range(QUICK.deaths):
        async with broker.channel() as channel:
            await (await channel.declare_queue(broker.names.submissions, passive=True)).get()
    work = StoreWork(store)
    async with consuming(broker, work):
        await until(lambda: _counts(broker, broker.names.dead, 1), "dead letter")
    row = await store.find_run(run_id)
    assert (row.status, row.reason) == (Status.FAILED, Reason.ENGINE_FAULT)
    assert "10 conductors" in (row.message or "")
    assert work.calls == 0


async def test_message_comes_again_when_the_connection_breaks(broker: Broker, wire: Wire, store: SqliteStore) -> None:
    """A run whose message was in hand is defined once, though the message is delivered anew to the same process."""
    (run_id,) = await submit(store, 1)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def before(_: str) -> None:
        reached.set()
        await go_on.wait()

    work = StoreWork(store, before=before)
    async with publishing(broker) as publisher, consuming(broker, work, wire.url) as consumer:
        await publisher.tell([run_id])
        await reached.wait()
        wire.cut()
        await until(lambda: consumer.trouble, "trouble")
        wire.mend()
        await until(lambda: consumer.trouble is None, "connection")
        await until(lambda: all_settled(broker), "delivery of the message that went back")
        assert work.calls == 1
        go_on.set()
        await until(lambda: work.defined, "definition")
    assert work.calls == 1
    assert await broker.count() == await broker.count(broker.names.dead) == 0


async def test_consumer_takes_no_more_than_there_is_room_for(broker: Broker, store: SqliteStore) -> None:
    """With room for three, three are taken and the rest waits in the queue for others; as runs end, more are taken."""
    run_ids = await submit(store, 10)
    small = StoreWork(store, owner="small", limit=3)
    async with publishing(broker) as publisher, consuming(broker, small):
        await publisher.tell(run_ids)
        await until(lambda: len(small.defined) == 3, "three definitions")
        await until(lambda: _counts(broker, broker.names.submissions, 7), "seven that wait")
        small.end(2)
        await until(lambda: len(small.defined) == 5, "two more")
        large = StoreWork(store, owner="large")
        async with consuming(broker, large):
            await until(lambda: len(large.defined) == 5, "the rest, elsewhere")
    assert small.defined | large.defined == dict.fromkeys(run_ids, 1)
    assert await broker.count() == await broker.count(broker.names.dead) == 0


async def test_stop_finishes_what_is_in_hand(broker: Broker, store: SqliteStore) -> None:
    """A run being defined when the process is told to end is defined and its message acknowledged; no new one is taken."""
    first, second = await submit(store, 2)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def before(_: str) -> None:
        reached.set()
        await go_on.wait()

    work = StoreWork(store, before=before)
    async with publishing(broker) as publisher:
        consumer = Consumer(broker.url, publisher, work, names=broker.names, pace=Pace(drain_s=30.0))
        running = asyncio.create_task(consumer.run())
        await until(lambda: consumer.trouble is None, "connection")
        await publisher.tell([first])
        await reached.wait()
        consumer.stop()
        await asyncio.sleep(0.2)  # the broker counts a consumer that was cancelled until its last message is settled
        await publisher.tell([second])
        go_on.set()
        await running
    assert work.defined == {first: 1}
    assert [json.loads(message.body)["run"] for message in await broker.take()] == [second]


async def test_stop_gives_back_what_cannot_be_finished(broker: Broker, store: SqliteStore) -> None:
    """What takes longer than the drain, and what waits for the store, is in the queue again for others."""
    slow, away = await submit(store, 2)
    reached: set[str] = set()

    async def before(run_id: str) -> None:
        reached.add(run_id)
        if run_id == away:
            raise StoreError("the store is away")
        await asyncio.Event().wait()

    work = StoreWork(store, before=before)
    pace = Pace(first_pause_s=0.02, longest_pause_s=0.1, drain_s=0.2)
    async with publishing(broker) as publisher, consuming(broker, work, pace=pace):
        await publisher.tell([slow, away])
        await until(lambda: reached == {slow, away}, "both in hand")
    assert {json.loads(message.body)["run"] for message in await broker.take()} == {slow, away}
    assert not work.defined
    assert work.room() == work.limit


async def test_consumer_goes_on_when_its_queue_was_deleted(broker: Broker, store: SqliteStore) -> None:
    """A queue that a person deletes is made again and consumed from."""
    (run_id,) = await submit(store, 1)
    work = StoreWork(store)
    async with consuming(broker, work) as consumer:
        async with broker.channel() as channel:
            await channel.queue_delete(broker.names.submissions)
        await until(lambda: consumer.trouble, "trouble")
        await until(lambda: consumer.trouble is None, "connection")
        await broker.publish(encode_run(run_id))
        await until(lambda: work.defined, "definition")


async def _counts(broker: Broker, name: str, count: int) -> bool:
    return await broker.count(name) == count
