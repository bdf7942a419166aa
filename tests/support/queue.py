"""What tests of the message queue share: queues of their own, work on a real store, and a wire that can be cut."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aio_pika

from stretto.core.errors import RunBusyError
from stretto.core.events import RunEnded
from stretto.core.ports import NewRequest, Store
from stretto.core.spec import JobSpec, RunSpec
from stretto.core.states import Reason, Status
from stretto.doors.amqp.topology import Names
from stretto.engine.recovery import replay
from stretto.waist import RunRequest, request_to_json

DEADLINE_S = 30.0
"""Nothing that is waited for takes a tenth of this; a machine under load may."""


class Broker:
    """Queues of one test on a real broker, seen as another program would see them; deleted by `clean`."""

    def __init__(self, url: str) -> None:
        self.url = url
        mark = secrets.token_hex(4)
        self.names = Names(f"test.{mark}.submissions", f"test.{mark}.dead")

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
        """Give a channel of a connection of its own."""
        connection = await aio_pika.connect(self.url)
        async with connection, connection.channel() as channel:
            yield channel

    async def publish(self, body: bytes, **properties: Any) -> None:
        """Publish as a stranger does."""
        async with self.channel() as channel:
            await channel.default_exchange.publish(aio_pika.Message(body, **properties), self.names.submissions)

    async def count(self, name: str | None = None) -> int:
        """Return how many messages wait in the queue (submissions, unless another is named)."""
        async with self.channel() as channel:
            queue = await channel.declare_queue(name or self.names.submissions, passive=True)
            return queue.declaration_result.message_count or 0

    async def take(self, name: str | None = None) -> list[aio_pika.abc.AbstractIncomingMessage]:
        """Return all messages of a queue, which are gone from there."""
        found = []
        async with self.channel() as channel:
            queue = await channel.declare_queue(name or self.names.submissions, passive=True)
            while (message := await queue.get(fail=False)) is not None:
                await message.ack()
                found.append(message)
        return found

    async def clean(self) -> None:
        """Delete the queues and the exchange."""
        async with self.channel() as channel:
            for name in (self.names.submissions, self.names.dead):
                await channel.queue_delete(name)
            await channel.exchange_delete(self.names.dead)


@dataclass
class StoreWork:
    """Work on a real store as a conductor does it, up to where jobs would start. `defined` counts definitions by run."""

    store: Store
    owner: str = "conductor"
    limit: int = 100
    defined: dict[str, int] = field(default_factory=dict)
    accepted: list[RunRequest] = field(default_factory=list)
    before: Callable[[str], Awaitable[None]] | None = None
    """Called with a run's id each time before it is claimed; what it raises is what `take` raises."""
    calls: int = 0

    def __post_init__(self) -> None:
        self._taken = 0
        self._free = asyncio.Event()
        self._free.set()

    def room(self) -> int:
        """See `consumer.Work`."""
        return self.limit - self._taken

    async def wait_for_room(self) -> None:
        """See `consumer.Work`."""
        while self.room() <= 0:
            self._free.clear()
            await self._free.wait()

    def end(self, count: int) -> None:
        """Have so many of the runs that were taken end."""
        self._taken -= count
        self._free.set()

    async def take(self, run_id: str) -> None:
        """See `consumer.Work`."""
        self._taken += 1
        held = False
        try:
            self.calls += 1
            if self.before is not None:
                await self.before(run_id)
            stored = await self.store.load(run_id)
            if stored.request is None or stored.row.ended_at is not None:
                return
            claim = await self.store.claim(run_id, self.owner)
            if (await self.store.load(run_id)).request is None:
                await self.store.release(claim)  # another was quicker
                return
            await self.store.define(claim, RunSpec("pipeline", "p", ("s",), (JobSpec("j", "s", "fake"),)))
            self.defined[run_id] = self.defined.get(run_id, 0) + 1
            held = True
        finally:
            if not held:
                self.end(1)

    async def give_up(self, run_id: str, message: str) -> None:
        """See `consumer.Work`."""
        claim = await self.store.claim(run_id, self.owner)
        stored = await self.store.load(run_id)
        run = replay(run_id, stored.spec, stored.events)
        if stored.request is not None and not run.is_over:
            ended = RunEnded(datetime.now(UTC), Status.FAILED, Reason.ENGINE_FAULT, message)
            run.apply(ended)
            await self.store.commit(claim, [ended], run.take_changes())
        await self.store.release(claim)

    async def accept(self, request: RunRequest) -> None:
        """See `consumer.Work`."""
        self.accepted.append(request)
        await self.store.accept([_stored(request)])


async def submit(store: Store, count: int) -> list[str]:
    """Accept so many runs, undefined; return their ids."""
    new = [_stored(RunRequest(repository="https://example.test/r.git")) for _ in range(count)]
    return [row.id for row, _ in await store.accept(new)]


def _stored(request: RunRequest) -> NewRequest:
    return NewRequest(
        request_to_json(request),
        datetime.now(UTC),
        name="p",
        by=request.by,
        idempotency_key=request.idempotency_key,
    )


class Wire:
    """A TCP connection to the broker by way of this process, which `cut` breaks and which is dead until `mend`."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._open: set[asyncio.Task[None]] = set()
        self._dead = False
        self.connections = 0
        self.url = ""

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        login, _, _ = self._target.netloc.rpartition("@")
        self.url = f"amqp://{login}@127.0.0.1:{port}{self._target.path}"

    def cut(self) -> None:
        """Break all connections at once, as a broker that is killed does, and refuse new ones."""
        self._dead = True
        for task in self._open:
            task.cancel()

    def mend(self) -> None:
        """Let connections through again."""
        self._dead = False

    async def close(self) -> None:
        """Listen no more."""
        self.cut()
        self._server.close()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._dead:
            writer.transport.abort()
            return
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        task = asyncio.create_task(self._carry(reader, far_writer, far_reader, writer), name="wire")
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
            target.close()

        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        except OSError:
            pass  # one side is gone, so both are
        finally:
            for end in (writer, far_writer):
                end.transport.abort()


async def until(condition: Callable[[], object] | Callable[[], Awaitable[object]], what: str) -> None:
    """Wait until the condition holds; an AssertionError names `what` did not come."""
    loop = asyncio.get_running_loop()
    end = loop.time() + DEADLINE_S
    while True:
        held = condition()
        if asyncio.iscoroutine(held):
            held = await held
        if held:
            return
        assert loop.time() < end, f"no {what} within {DEADLINE_S:g} s"
        await asyncio.sleep(0.02)


def busy(times: int) -> Callable[[str], Awaitable[None]]:
    """Return a `StoreWork.before` that finds the run in another's hands so many times."""
    left = times

    async def check(run_id: str) -> None:
        nonlocal left
        if left > 0:
            left -= 1
            raise RunBusyError(f"run {run_id} is owned by a live conductor")

    return check
