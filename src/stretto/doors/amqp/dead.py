"""Dead letters: looked at, sent again, deleted. Each call sees those that are there when it begins, oldest first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from stretto.core.errors import NotFoundError
from stretto.doors.amqp.connection import close, connect, foreign_errors
from stretto.doors.amqp.message import AT_HEADER, MESSAGE_HEADER, REASON_HEADER
from stretto.doors.amqp.publisher import CONFIRM_S
from stretto.doors.amqp.topology import NAMES, Names, declare

GET_S: Final = 10.0
BROKERS_REASON: Final = "x-first-death-reason"
"""What the broker says where it was the one who gave a message up (RabbitMQ, dead letter exchanges)."""
_OURS: Final = frozenset({REASON_HEADER, MESSAGE_HEADER, AT_HEADER, "x-death", "x-delivery-count"})
_PREFIXES: Final = ("x-first-death-", "x-last-death-")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that nobody could use. `id` is empty where its sender gave it none and the broker gave it up."""

    id: str
    reason: str
    message: str
    at: str
    body: bytes


async def list_dead(url: str, *, limit: int, names: Names = NAMES) -> list[DeadLetter]:
    """Return the oldest dead letters; they stay. SettingsError, QueueError."""
    async with _opened(url, names) as (_, dead):
        return [_letter(message) async for message in _messages(dead, limit)]


async def retry_dead(url: str, ids: Collection[str] | None, *, names: Names = NAMES) -> int:
    """Send those with an id (or its start) in `ids` again, None: all; return how many. NotFoundError names what is not there."""
    async with _opened(url, names) as (channel, dead):
        count = 0
        for message in await _chosen(dead, ids):
            headers = {
                name: value
                for name, value in message.headers.items()
                if name not in _OURS and not name.startswith(_PREFIXES)
            }
            again = Message(
                message.body,
                headers=headers,
                content_type=message.content_type,
                delivery_mode=DeliveryMode.PERSISTENT,
                message_id=message.message_id,
            )
            async with asyncio.timeout(CONFIRM_S):
                await channel.default_exchange.publish(again, names.submissions, mandatory=True)
            await message.ack()
            count += 1
        return count


async def drop_dead(url: str, ids: Collection[str] | None, *, names: Names = NAMES) -> int:
    """Delete those with an id (or its start) in `ids`, None: all; return how many. NotFoundError names what is not there."""
    async with _opened(url, names) as (_, dead):
        messages = await _chosen(dead, ids)
        for message in messages:
            await message.ack()
        return len(messages)


@asynccontextmanager
async def _opened(url: str, names: Names) -> AsyncIterator[tuple[AbstractChannel, AbstractQueue]]:
    """Give channel and dead letters; those that were got and not acknowledged go back at the end."""
    connection = await connect(url, "dead letters")
    try:
        with foreign_errors(url):
            channel = connection.channel(publisher_confirms=True, on_return_raises=True)
            await channel.initialize()
            _, dead = await declare(channel, names)
            yield channel, dead
            await channel.close()  # the broker has read every acknowledgement when it answers this
    finally:
        await close(connection)


async def _messages(dead: AbstractQueue, limit: int) -> AsyncIterator[AbstractIncomingMessage]:
    for _ in range(min(limit, dead.declaration_result.message_count or 0)):
        message = await dead.get(fail=False, timeout=GET_S)
        if message is None:
            return
        yield message


async def _chosen(dead: AbstractQueue, ids: Collection[str] | None) -> list[AbstractIncomingMessage]:
    messages = [message async for message in _messages(dead, dead.declaration_result.message_count or 0)]
    if ids is None:
        return messages
    for wanted in ids:
        if not any((message.message_id or "").startswith(wanted) for message in messages):
            raise NotFoundError(f"no dead letter has an id that starts with {wanted!r}")
    return [message for message in messages if (message.message_id or "").startswith(tuple(ids))]


def _letter(message: AbstractIncomingMessage) -> DeadLetter:
    headers = message.headers
    return DeadLetter(
        id=message.message_id or "",
        reason=str(headers.get(REASON_HEADER) or headers.get(BROKERS_REASON) or "unknown"),
        message=str(headers.get(MESSAGE_HEADER) or ""),
        at=str(headers.get(AT_HEADER) or (message.timestamp.isoformat() if message.timestamp else "")),
        body=message.body,
    )
