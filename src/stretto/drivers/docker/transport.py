"""HTTP/1.1 to one engine: pooled connections, streamed bodies, hijacked connections.

The one place that knows h11, sockets and their errors: all that goes wrong beneath leaves as EngineUnavailableError (or as
DriverError with `disk_full`). It knows nothing of Docker but that every request of ours may be sent twice: things are made under
names of ours, and making, starting, killing or deleting them again changes nothing. So a request whose pooled connection turns
out to be dead is sent once more on a new one.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import h11

from stretto.core.errors import DriverError, EngineUnavailableError
from stretto.core.states import Reason
from stretto.drivers.docker.endpoint import HINT, Channel, Endpoint

T = TypeVar("T")
log = logging.getLogger(__name__)

READ_BYTES: Final = 64 * 1024
MAX_IDLE: Final = 8
"""Connections kept for later: twice the starts at once; a burst of streams must not leave hundreds behind."""
BODY_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""The largest answer that is taken whole; listing 10,000 containers takes a tenth."""

Foreign: Final = (OSError, EOFError, h11.ProtocolError, asyncio.LimitOverrunError)
"""All that the libraries beneath raise: time-outs and TLS faults are OSErrors, a cut stream is an EOFError."""


@contextmanager
def foreign_errors(where: str, hint: str = HINT) -> Iterator[None]:
    """Turn what the libraries beneath raise into errors of our tree; `where` names the engine."""
    try:
        yield
    except Foreign as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise DriverError(f"no room left on the disk: {error}", reason=Reason.DISK_FULL) from error
        if isinstance(error, ssl.SSLError):
            raise EngineUnavailableError(
                f"the Docker engine at {where} can't be spoken to over TLS: {str(error)[:300]}",
                hint=hint,
            ) from error
        detail = str(error) or (
            "it did not answer in time" if isinstance(error, TimeoutError) else type(error).__name__
        )
        raise EngineUnavailableError(
            f"the Docker engine at {where} does not answer: {detail[:300]}",
            hint=hint,
        ) from error


class Connection:
    """One connection, used by one exchange at a time."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.http = h11.Connection(h11.CLIENT)
        self.used = False

    async def send(self, event: h11.Event) -> None:
        """Send a part of a request."""
        self.channel.writer.write(self.http.send(event) or b"")
        await self.channel.writer.drain()

    async def receive(self) -> h11.Event:
        """Return the next part of the answer."""
        while (event := self.next_event()) is None:
            await self.read()
        return event

    def next_event(self) -> h11.Event | None:
        """Return the next part of the answer if it has arrived."""
        event = self.http.next_event()
        if event is h11.NEED_DATA:
            return None
        if not isinstance(event, h11.Event):
            raise ConnectionError("the connection is not in a state to be read")
        return event

    async def read(self) -> None:
        """Take in more of the answer."""
        data = await self.channel.reader.read(READ_BYTES)
        if not data and self.http.their_state is h11.SEND_RESPONSE:
            raise ConnectionError("it closed the connection without an answer")
        self.http.receive_data(data)

    def is_idle(self) -> bool:
        """Whether the connection stands and could take a request."""
        return not self.channel.reader.at_eof() and not self.channel.writer.is_closing()

    def close(self) -> None:
        """Let go of it."""
        self.channel.close()


class Response:
    """An answer whose body is still to come. Read it whole, or `close` it: its connection is then let go."""

    def __init__(self, transport: Transport, connection: Connection, head: h11.Response) -> None:
        self.status = head.status_code
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        self._transport = transport
        self._connection: Connection | None = connection

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes, without a time-out: the engine may have nothing to say for hours."""
        while (connection := self._connection) is not None:
            parts: list[bytes] = []
            with foreign_errors(self._transport.where):
                event: h11.Event | None = await connection.receive()
                while isinstance(event, h11.Data):  # an answer in many small pieces is handed on in few large ones
                    parts.append(event.data)
                    event = connection.next_event()
            if isinstance(event, h11.EndOfMessage):
                self._connection = None
                self._transport.keep(connection)
            if parts:
                yield b"".join(parts)

    async def read(self, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
        """Return the body whole; an answer above the limit is refused."""
        parts: list[bytes] = []
        size = 0
        try:
            async for chunk in self.chunks():
                parts.append(chunk)
                size += len(chunk)
                if size > limit_bytes:
                    raise EngineUnavailableError(
                        f"the Docker engine at {self._transport.where} sent more than {limit_bytes} bytes"
                    )
        finally:
            self.close()
        return b"".join(parts)

    def close(self) -> None:
        """Let go of the connection if the body has not come to its end."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Hijacked:
    """A connection that is no HTTP any more but bytes both ways. `rest` came along with the answer's head."""

    def __init__(self, connection: Connection, where: str) -> None:
        self._connection = connection
        self._where = where
        self._rest = connection.http.trailing_data[0]

    async def read(self) -> bytes:
        """Return some bytes, none at the end."""
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        with foreign_errors(self._where):
            return await self._connection.channel.reader.read(READ_BYTES)

    async def write(self, data: bytes) -> None:
        """Send bytes."""
        with foreign_errors(self._where):
            self._connection.channel.writer.write(data)
            await self._connection.channel.writer.drain()

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()


class Transport:
    """The way to one engine. Any number of requests at once; each has a connection of its own while it lasts."""

    def __init__(self, endpoint: Endpoint, *, connect_timeout_s: float, request_timeout_s: float) -> None:
        self.where = endpoint.text
        self.timeout_s = request_timeout_s
        self._endpoint = endpoint
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[Connection] = []
        self._tunnels: set[Channel] = set()
        self._closed = False

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        stream: AsyncIterator[bytes] | None = None,
        timeout_s: float | None = None,
    ) -> Response:
        """Send a request and return the answer once its head is there, at most `timeout_s` later (infinite: no limit).

        `stream` is a body of unknown length; it is sent once, so on a new connection.
        """
        head = _head(self.where, method, target, headers, body, stream is not None)
        connection, answer = await self._exchange(head, body, stream, timeout_s)
        if not isinstance(answer, h11.Response):
            connection.close()
            raise EngineUnavailableError(f"the Docker engine at {self.where} answered out of turn")
        return Response(self, connection, answer)

    async def hijack(self, method: str, target: str) -> Hijacked | Response:
        """Ask for the connection itself; a Response means that it was refused."""
        head = _head(self.where, method, target, {"Connection": "Upgrade", "Upgrade": "tcp"}, None, False)
        connection, answer = await self._exchange(head, None, None, None)
        if isinstance(answer, h11.Response):
            return Response(self, connection, answer)
        return Hijacked(connection, self.where)

    async def _exchange(
        self, head: h11.Request, body: bytes | None, stream: AsyncIterator[bytes] | None, timeout_s: float | None
    ) -> tuple[Connection, h11.Response | h11.InformationalResponse]:
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        while True:
            connection = await self._connect(fresh=stream is not None)
            try:
                return connection, await self.within(limit_s, self._talk(connection, head, body, stream))
            except EngineUnavailableError as error:
                connection.close()
                if not connection.used or isinstance(error.__cause__, TimeoutError):
                    raise
                log.debug("a kept connection to the engine was dead; trying a new one")
            except BaseException:
                connection.close()
                raise

    async def _talk(
        self, connection: Connection, head: h11.Request, body: bytes | None, stream: AsyncIterator[bytes] | None
    ) -> h11.Response | h11.InformationalResponse:
        await connection.send(head)
        if body is not None:
            await connection.send(h11.Data(data=body))
        if stream is not None:
            async for chunk in stream:
                await connection.send(h11.Data(data=chunk))
        await connection.send(h11.EndOfMessage())
        while True:
            event = await connection.receive()
            if isinstance(event, h11.Response):
                return event
            if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                return event
            if isinstance(event, h11.ConnectionClosed):
                raise ConnectionError("it closed the connection")

    async def _connect(self, *, fresh: bool) -> Connection:
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.is_idle():
                return connection
            connection.close()
        with foreign_errors(self.where, self._endpoint.hint):
            async with asyncio.timeout(self._connect_timeout_s):
                channel = await self._endpoint.dial()
        self._tunnels = {tunnel for tunnel in (*self._tunnels, channel) if tunnel.has_tunnel}
        return Connection(channel)

    async def within(self, limit_s: float, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` gives within `limit_s` (infinite: no limit)."""
        with foreign_errors(self.where, self._endpoint.hint):
            async with asyncio.timeout(None if limit_s == float("inf") else limit_s):
                return await work

    def keep(self, connection: Connection) -> None:
        """Take a connection back whose exchange is over."""
        http = connection.http
        reusable = http.our_state is h11.DONE and http.their_state is h11.DONE
        if not reusable or self._closed or len(self._idle) >= MAX_IDLE or not connection.is_idle():
            connection.close()
            return
        http.start_next_cycle()
        connection.used = True
        self._idle.append(connection)

    async def close(self) -> None:
        """Let go of the idle connections; those in use close when their exchange is over. Tunnels end all."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        for tunnel in self._tunnels:
            tunnel.close()
        for tunnel in self._tunnels:
            await tunnel.wait_closed()
        self._tunnels.clear()


def _head(
    where: str, method: str, target: str, headers: dict[str, str] | None, body: bytes | None, streamed: bool
) -> h11.Request:
    fields = {"Host": "docker", "User-Agent": "stretto", **(headers or {})}
    if streamed:
        fields["Transfer-Encoding"] = "chunked"
    elif body is not None or method in ("POST", "PUT"):
        fields["Content-Length"] = str(len(body or b""))
    with foreign_errors(where):
        return h11.Request(method=method, target=target, headers=list(fields.items()))
