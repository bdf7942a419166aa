"""Publishing: one connection, every message persistent, mandatory and confirmed. Who was not told otherwise must send again."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import DeliveryError
from pamqp.commands import Basic

from stretto.core.errors import QueueError
from stretto.doors.amqp.address import mask
from stretto.doors.amqp.connection import first_of, foreign_errors, keep
from stretto.doors.amqp.message import AT_HEADER, MESSAGE_HEADER, REASON_HEADER, encode_run
from stretto.doors.amqp.topology import DECLARE_S, NAMES, Names, declare

log = logging.getLogger(__name__)

CONFIRM_S: Final = 10.0
"""How long the broker may take to confirm: a quorum queue syncs to disk on most of its nodes."""
AT_ONCE: Final = 200
"""Messages on their way without a confirmation."""
_HEADER_CHARACTERS: Final = 1000


class Publisher:
    """Sends messages while `run` runs; any number of tasks at once. A QueueError means that the message may be sent again.

    `trouble` is what is wrong with the queue, in a sentence; None while it serves.
    """

    def __init__(self, url: str, *, names: Names = NAMES, wait_s: float = 5.0) -> None:
        self.trouble: str | None = "not connected to the message queue yet"
        self._url = url
        self._names = names
        self._wait_s = wait_s
        self._channel: AbstractChannel | None = None
        self._serves = asyncio.Event()
        self._broken = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Be connected, until `stop`. What is wrong meanwhile is in `trouble` and in the log."""
        await keep(self._url, "publisher", self._session, stop=self._stop, tell=self._tell)

    def stop(self) -> None:
        """Let `run` end; what is being sent is sent."""
        self._stop.set()

    async def tell(self, run_ids: Sequence[str]) -> list[str]:
        """Send a message for each run; return those that the queue has for certain. QueueError when it has none of them."""
        told: list[str] = []
        trouble: QueueError | None = None
        for start in range(0, len(run_ids), AT_ONCE):
            page = run_ids[start : start + AT_ONCE]
            done = await asyncio.gather(*(self.send(encode_run(run_id)) for run_id in page), return_exceptions=True)
            for run_id, error in zip(page, done, strict=True):
                if error is None:
                    told.append(run_id)
                elif isinstance(error, QueueError):
                    trouble = error
                else:
                    raise error
            if trouble is not None:
                break
        if trouble is not None and not told:
            raise trouble
        return told

    async def send(
        self, body: bytes, *, headers: Mapping[str, Any] | None = None, message_id: str | None = None
    ) -> None:
        """Put a message into the queue of submissions; return when it is safe there."""
        await self._publish("", self._names.submissions, body, dict(headers or {}), message_id)

    async def bury(
        self,
        body: bytes,
        reason: str,
        message: str,
        *,
        headers: Mapping[str, Any] | None = None,
        message_id: str | None = None,
    ) -> None:
        """Put a message among the dead letters, with why; return when it is safe there."""
        why = {
            REASON_HEADER: reason,
            MESSAGE_HEADER: message[:_HEADER_CHARACTERS],
            AT_HEADER: datetime.now(UTC).isoformat(timespec="seconds"),
        }
        await self._publish(self._names.dead, "", body, {**(headers or {}), **why}, message_id)

    async def depth(self) -> int:
        """Return how many submissions wait in the queue, those in somebody's hands not among them."""
        channel = await self._ready()
        with foreign_errors(self._url):
            queue = await channel.declare_queue(self._names.submissions, passive=True, timeout=DECLARE_S)
            return queue.declaration_result.message_count or 0

    # ------------------------------------------------------------------------------------------------------- pieces

    async def _session(self, connection: AbstractConnection) -> None:
        channel = connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.initialize()
        await declare(channel, self._names)
        self._broken.clear()
        self._channel = channel
        self._serves.set()
        self._tell(None)
        log.info("message queue serves", extra={"queue": mask(self._url), "role": "publisher"})
        try:
            await first_of(self._stop.wait(), self._broken.wait(), channel.closed())
        finally:
            self._channel = None
            self._serves.clear()
        if not self._stop.is_set():
            raise QueueError(f"the connection to the message queue at {mask(self._url)} was lost")

    async def _publish(
        self, exchange: str, key: str, body: bytes, headers: dict[str, Any], message_id: str | None
    ) -> None:
        channel = await self._ready()
        message = Message(
            body,
            headers=headers,
            content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=message_id or uuid.uuid4().hex,  # by which the library knows which one was returned
            app_id="stretto",
        )
        try:
            with foreign_errors(self._url):
                async with asyncio.timeout(CONFIRM_S):
                    await (await self._exchange(channel, exchange)).publish(message, key, mandatory=True)
        except QueueError as error:
            cause = error.__cause__
            if isinstance(cause, DeliveryError) and isinstance(cause.frame, Basic.Nack):
                raise QueueError(f"the message queue at {mask(self._url)} takes no more messages") from cause
            self._tell(error.message)
            self._serves.clear()
            self._broken.set()  # a new connection declares the queues again: they may have been deleted
            raise

    async def _exchange(self, channel: AbstractChannel, name: str) -> AbstractExchange:
        return await channel.get_exchange(name, ensure=False) if name else channel.default_exchange

    async def _ready(self) -> AbstractChannel:
        try:
            async with asyncio.timeout(self._wait_s):
                await self._serves.wait()
        except TimeoutError as error:
            raise QueueError(self.trouble or f"the message queue at {mask(self._url)} does not answer") from error
        if self._channel is None or self._channel.is_closed:
            raise QueueError(f"the connection to the message queue at {mask(self._url)} was lost")
        return self._channel

    def _tell(self, trouble: str | None) -> None:
        self.trouble = trouble
