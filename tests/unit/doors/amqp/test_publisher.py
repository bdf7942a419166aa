"""Publishing to a real RabbitMQ: what a confirmation promises, and what happens when there is none."""

from __future__ import annotations

import asyncio
import json
import logging

import aio_pika
import pytest

from stretto.core.errors import QueueError, SettingsError
from stretto.doors.amqp.consumer import Consumer
from stretto.doors.amqp.probe import probe
from stretto.doors.amqp.publisher import Publisher
from stretto.store.sqlite import SqliteStore
from tests.support.queue import Broker, StoreWork, Wire, until

from .conftest import publishing

pytestmark = pytest.mark.rabbitmq


async def test_tell_returns_when_the_broker_has_the_messages(broker: Broker) -> None:
    """Each run is in the queue once, in a persistent message of the documented form."""
    run_ids = [f"{number:012x}" for number in range(450)]
    async with publishing(broker) as publisher:
        assert await publisher.tell(run_ids) == run_ids
        assert await publisher.depth() == 450
    messages = await broker.take()
    assert sorted(json.loads(message.body)["run"] for message in messages) == run_ids
    assert {message.delivery_mode for message in messages} == {aio_pika.DeliveryMode.PERSISTENT}
    assert json.loads(messages[0].body).keys() == {"schema", "run"}


async def test_queues_are_what_they_are_documented_to_be(broker: Broker) -> None:
    """Both are quorum queues; a submission that the broker gives up arrives among the dead letters."""
    async with publishing(broker) as publisher:
        await publisher.tell(["a" * 12])
        for _ in range(21):
            async with broker.channel() as channel:
                queue = await channel.declare_queue(broker.names.submissions, passive=True)
                message = await queue.get()
                await message.nack(requeue=True)
        await until(lambda: broker.count(broker.names.dead), "dead letter")
    (dead,) = await broker.take(broker.names.dead)
    assert dead.headers["x-first-death-reason"] == "delivery_limit"
    assert await broker.count() == 0


async def test_publisher_connects_again_when_the_connection_breaks(broker: Broker, wire: Wire) -> None:
    """While the broker is away `trouble` says so and sending fails in bounded time; then all is well without help."""
    async with publishing(broker, wire.url, wait_s=0.2) as publisher:
        await publisher.tell(["a"])
        wire.cut()
        await until(lambda: publisher.trouble, "trouble")
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(QueueError):
            await publisher.tell(["b"])
        assert loop.time() - started < 5
        tries = wire.connections
        wire.mend()
        await until(lambda: publisher.trouble is None, "connection")
        assert wire.connections == tries + 1
        assert await publisher.tell(["b"]) == ["b"]
    assert sorted(json.loads(message.body)["run"] for message in await broker.take()) == ["a", "b"]


async def test_send_cut_off_before_its_confirmation_fails(broker: Broker, wire: Wire) -> None:
    """A message without a confirmation is never taken for sent, and nobody waits for one that can't come."""
    async with publishing(broker, wire.url, wait_s=0.2) as publisher:
        sending = [asyncio.create_task(publisher.send(b"x" * 1_000_000)) for _ in range(40)]
        await asyncio.sleep(0)
        wire.cut()
        done = await asyncio.gather(*sending, return_exceptions=True)
        confirmed = done.count(None)
        assert all(error is None or isinstance(error, QueueError) for error in done)
        assert confirmed < 40
    assert await broker.count() >= confirmed


async def test_publisher_makes_a_deleted_queue_again(broker: Broker) -> None:
    """A message for a queue that a person deleted is told of as not sent; the next one finds the queue again."""
    async with publishing(broker) as publisher:
        async with broker.channel() as channel:
            await channel.queue_delete(broker.names.submissions)
        with pytest.raises(QueueError):
            await publisher.tell(["a"])
        await until(lambda: publisher.trouble is None, "connection")
        assert await publisher.tell(["a"]) == ["a"]
    assert await broker.count() == 1


async def test_queue_with_other_arguments_is_told_clearly(broker: Broker, store: SqliteStore) -> None:
    """Check, publisher and consumer all say that the queue is another's, and go on trying."""
    async with broker.channel() as channel:
        await channel.declare_queue(broker.names.submissions, durable=True)
    with pytest.raises(
        SettingsError, match=f"something else under a name of ours.*{broker.names.submissions}"
    ) as caught:
        await probe(broker.url, names=broker.names)
    assert "rabbitmqctl delete_queue" in (caught.value.hint or "")
    publisher = Publisher(broker.url, names=broker.names)
    consumer = Consumer(broker.url, publisher, StoreWork(store), names=broker.names)
    async with asyncio.TaskGroup() as group:
        group.create_task(publisher.run())
        group.create_task(consumer.run())
        for part in (publisher, consumer):
            await until(lambda part=part: "something else" in (part.trouble or ""), "trouble")  # type: ignore[misc]
        async with broker.channel() as channel:
            await channel.queue_delete(broker.names.submissions)
        for part in (publisher, consumer):
            await until(lambda part=part: part.trouble is None, "connection")  # type: ignore[misc]
            part.stop()


async def test_no_password_gets_into_a_log_or_an_error(
    broker: Broker, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """Connecting, losing the connection and failing to connect, at every level of the log, tell of the place only."""
    caplog.set_level(logging.DEBUG)
    secret = broker.url.partition("@")[0].rpartition(":")[2]
    async with publishing(broker, wire.url, wait_s=0.1) as publisher:
        wire.cut()
        await until(lambda: publisher.trouble, "trouble")
        with pytest.raises(QueueError) as caught:
            await publisher.tell(["a"])
    assert ":***@127.0.0.1" in caught.value.message
    told = caplog.text + "".join(str(vars(record)) for record in caplog.records) + caught.value.message
    assert "message queue lost" in told
    assert secret not in told
