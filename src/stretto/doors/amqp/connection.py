"""Connections to the broker: made, checked, made again when they break. The only place that knows the library's errors."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import (
    AMQPError,
    AuthenticationError,
    IncompatibleProtocolError,
    ProbableAuthenticationError,
    ProtocolSyntaxError,
)
from aiormq.exceptions import ChannelAccessRefused, ConnectionNotAllowed
from pamqp.exceptions import PAMQPException
from yarl import URL

from stretto.core.errors import QueueError, SettingsError, StrettoError
from stretto.doors.amqp.address import check_url, hide_password, mask

log = logging.getLogger(__name__)
for _library in ("aio_pika", "aiormq"):
    logging.getLogger(_library).setLevel(logging.CRITICAL)  # it logs, with traces, what it raises as well

CONNECT_S: Final = 10.0
CLOSE_S: Final = 5.0
HEARTBEAT_S: Final = 15
"""A broker whose host vanished is noticed after three of these; the library's default is a minute."""
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
"""Between two tries to connect: a restarted broker is found soon, one that is away for an hour is left in peace."""
OLDEST: Final = (3, 10)
"""RabbitMQ: the first with dead-lettering at least once."""

_REFUSED: Final = (ProbableAuthenticationError, AuthenticationError, ConnectionNotAllowed, ChannelAccessRefused)
_CLOSED_AT_OPEN: Final = "['Connection.OpenOk'], got <Connection.Close"
"""How the library tells that the broker closed the connection instead of opening the virtual host; the reason is lost there."""
_STRANGE: Final = (IncompatibleProtocolError, ProtocolSyntaxError, PAMQPException)


@contextmanager
def foreign_errors(url: str) -> Iterator[None]:
    """Make of the library's errors our own: SettingsError where the broker refuses us, QueueError otherwise."""
    try:
        try:
            yield
        finally:
            heed_cancellation()
    except StrettoError:
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # so the library ends those who wait on a connection that is stuck
        raise QueueError(f"the message queue at {mask(url)} went silent") from error
    except _REFUSED as error:
        raise SettingsError(
            f"the message queue at {mask(url)} refuses us: {_said(error, url)}",
            hint="check user, password and virtual host of the setting queue, and the user's permissions",
        ) from error
    except _STRANGE as error:
        if _CLOSED_AT_OPEN in str(error):
            raise SettingsError(
                f"the message queue at {mask(url)} does not let us into this virtual host",
                hint="does it exist, is it up, and may the user use it? (rabbitmqctl list_vhosts, list_permissions)",
            ) from error
        raise QueueError(f"what answers at {mask(url)} does not speak AMQP 0-9-1") from error
    except TimeoutError as error:
        raise QueueError(f"the message queue at {mask(url)} does not answer in time") from error
    except (AMQPError, OSError, RuntimeError) as error:
        raise QueueError(f"the message queue at {mask(url)} does not answer: {_said(error, url)}") from error


def heed_cancellation() -> None:
    """Raise this task's CancelledError if somebody swallowed it, as `asyncio.wait_for` of Python 3.11 does when it comes late."""
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError


async def connect(url: str, role: str) -> AbstractConnection:
    """Return a connection to a RabbitMQ that serves; its name there says what it is for. SettingsError, QueueError."""
    check_url(url)
    address = URL(url)
    if "heartbeat" not in address.query:
        address = address.update_query(heartbeat=HEARTBEAT_S)
    address = address.update_query(name=f"stretto {role}")
    with foreign_errors(url):
        async with asyncio.timeout(CONNECT_S):
            connection = await aio_pika.connect(address)
    try:
        _check_server(connection, url)
    except BaseException:
        await close(connection)
        raise
    return connection


async def close(connection: AbstractConnection) -> None:
    """End the connection; whatever is not acknowledged goes back to its queue."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await connection.close()
    except (AMQPError, OSError, RuntimeError, TimeoutError) as error:
        log.debug("connection not closed in good order", extra={"error": repr(error)})


async def keep(
    url: str,
    role: str,
    use: Callable[[AbstractConnection], Awaitable[None]],
    *,
    stop: asyncio.Event,
    tell: Callable[[str | None], None],
) -> None:
    """Connect and `use` the connection until it breaks, over and over; return when `use` returns or `stop` is set.

    `tell` gets what is wrong, each time something is; whoever uses the connection says (None) when it serves.
    """
    pause_s = FIRST_PAUSE_S
    where = mask(url)
    while not stop.is_set():
        started = asyncio.get_running_loop().time()
        try:
            connection = await connect(url, role)
            try:
                with foreign_errors(url):
                    await use(connection)
                return
            finally:
                await close(connection)
        except (QueueError, SettingsError) as error:
            tell(error.message)
            log.warning("message queue lost", extra={"queue": where, "role": role, "error": error.message})
        if asyncio.get_running_loop().time() - started > LONGEST_PAUSE_S:
            pause_s = FIRST_PAUSE_S  # it served for a while
        await first_of(stop.wait(), asyncio.sleep(pause_s * random.uniform(0.5, 1.0)))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def first_of(*awaitables: Awaitable[Any]) -> None:
    """Come back when the first of them is done; the others are cancelled. Errors of theirs are not raised."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        heed_cancellation()
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def server_name(connection: AbstractConnection) -> tuple[str, str]:
    """Return product and version, as the broker itself names them (AMQP 0-9-1, `connection.start`)."""
    transport = connection.transport
    properties: dict[str, Any] = dict(transport.connection.server_properties or {}) if transport is not None else {}
    return _text(properties.get("product")), _text(properties.get("version"))


def _check_server(connection: AbstractConnection, url: str) -> None:
    product, version = server_name(connection)
    if product != "RabbitMQ":
        raise SettingsError(
            f"the message queue at {mask(url)} is {product[:40] or 'unknown'!r}; Stretto needs RabbitMQ",
            hint="without a queue the database does the same: leave the setting out",
        )
    number = re.match(r"(\d+)\.(\d+)", version)
    if number is None or (int(number[1]), int(number[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise SettingsError(f"RabbitMQ {version[:40]} at {mask(url)} is too old: {oldest} or later is needed")


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _said(error: BaseException, url: str) -> str:
    """Return what the error says, in one line that fits into a message and has no password in it."""
    text = " ".join(str(error).split()) or type(error).__name__
    return hide_password(text[:300], url)
