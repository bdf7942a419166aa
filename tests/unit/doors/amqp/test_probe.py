"""What the check says of a queue that is there, and of all that is not one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from pamqp import commands, frame

from stretto.core.errors import QueueError, SettingsError
from stretto.doors.amqp import connection
from stretto.doors.amqp.probe import probe
from tests.support.queue import Broker

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """Give the URL of a server that does this with each connection, then closes it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"amqp://me:s3cret@127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def talk_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(8)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def talk_older_amqp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(8)
    writer.write(b"AMQP\x01\x01\x00\x0a")  # what a broker that speaks another version answers (specification, 4.2.2)
    await writer.drain()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(8)


def broker_called(product: str, version: str) -> Serve:
    """Return a broker that goes as far as to open a connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(method: commands.Frame) -> None:
            writer.write(frame.marshal(method, 0))
            await writer.drain()

        async def hear() -> None:
            head = await reader.readexactly(7)
            await reader.readexactly(int.from_bytes(head[3:7], "big") + 1)

        await reader.readexactly(8)
        properties = {"product": product, "version": version, "capabilities": {"publisher_confirms": True}}
        await say(commands.Connection.Start(server_properties=properties, mechanisms="PLAIN", locales="en_US"))
        await hear()
        await say(commands.Connection.Tune(channel_max=100, frame_max=131072, heartbeat=0))
        await hear()
        await hear()
        await say(commands.Connection.OpenOk())
        await hear()  # close
        await say(commands.Connection.CloseOk())

    return talk


@pytest.mark.rabbitmq
async def test_probe_tells_what_it_found(broker: Broker) -> None:
    """Product, version, place and how full the queues are; the queues are there from then on."""
    assert "0 submissions wait, 0 dead letters" in await probe(broker.url, names=broker.names)
    await broker.publish(b"x")
    found = await probe(broker.url, names=broker.names)
    assert found.startswith("RabbitMQ ")
    assert ":***@127.0.0.1" in found
    assert found.endswith("1 submissions wait, 0 dead letters")


@pytest.mark.rabbitmq
@pytest.mark.parametrize("change", [lambda url: url.replace("@", "wrong@"), lambda url: f"{url}no-such-vhost"])
async def test_probe_tells_when_it_is_refused(broker: Broker, change: Callable[[str], str]) -> None:
    """A wrong password and a wrong virtual host are settings to correct, said without the password."""
    url = change(broker.url)
    with pytest.raises(SettingsError, match=r"refuses us|into this virtual host") as caught:
        await probe(url, names=broker.names)
    assert url.partition("@")[0].rpartition(":")[2] not in caught.value.message
    await probe(broker.url, names=broker.names)  # makes what `broker` deletes


async def test_probe_tells_when_nobody_listens() -> None:
    """A port that refuses is a queue that is away."""
    async with serving(hang_up) as url:
        pass
    with pytest.raises(QueueError, match="does not answer") as caught:
        await probe(url)
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize("serve", [talk_http, talk_older_amqp, hang_up])
async def test_probe_tells_when_another_protocol_is_spoken(serve: Serve) -> None:
    """Whatever answers, the error says where and that it is no queue of ours."""
    async with serving(serve) as url:
        with pytest.raises(QueueError, match=r"does not (speak AMQP 0-9-1|answer)") as caught:
            await probe(url)
    assert "s3cret" not in caught.value.message


async def test_probe_gives_up_on_a_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that accepts and says nothing is given up after a while."""
    monkeypatch.setattr(connection, "CONNECT_S", 0.2)
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()

    async with serving(silent) as url:
        with pytest.raises(QueueError, match="does not answer in time"):
            await probe(url)
        ended.set()


@pytest.mark.parametrize(
    ("product", "version", "complaint"),
    [("LavinMQ", "2.1.0", "is 'LavinMQ'; Stretto needs RabbitMQ"), ("RabbitMQ", "3.8.35", "3.8.35 at .* is too old")],
)
async def test_probe_refuses_a_broker_without_what_is_needed(product: str, version: str, complaint: str) -> None:
    """Other brokers, and RabbitMQ from before dead letters were safe, are refused by name."""
    async with serving(broker_called(product, version)) as url:
        with pytest.raises(SettingsError, match=complaint) as caught:
            await probe(url)
    assert "s3cret" not in caught.value.message
