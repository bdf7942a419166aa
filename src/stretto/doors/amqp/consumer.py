"""Consuming: a message is acknowledged only when the database has what it asked for, or the dead letters have the message.

What can happen to a message, besides that:

    the database is away          it stays in hand, unacknowledged, and is tried again; after `patience_s` a fresh copy goes to
                                  the end of the queue, as the broker ends a channel that holds a message too long
    the worker has no more room   nothing more is taken; what was already on its way goes back as a fresh copy
    the work crashes              after `tries` the run ends (`engine_fault`) and the message is a dead letter
    this process dies             the broker gives it to another; after `deaths` of those, as if it had crashed

A copy is confirmed before its original is acknowledged, so a message may be there twice and never not at all. A copy, not
`basic.nack`: what comes back counts towards the limit of deliveries, and an outage of the database is nobody's death.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Protocol

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from stretto.core.errors import InputError, NotFoundError, QueueError, StoreError, StrettoError
from stretto.doors.amqp.address import mask
from stretto.doors.amqp.connection import first_of, foreign_errors, keep
from stretto.doors.amqp.message import (
    BAD_REQUEST,
    CRASHED,
    UNKNOWN_RUN,
    RequestMessage,
    RunMessage,
    UnusableError,
    decode,
)
from stretto.doors.amqp.publisher import Publisher
from stretto.doors.amqp.topology import DECLARE_S, NAMES, Names, declare
from stretto.waist import RunRequest

log = logging.getLogger(__name__)

DELIVERIES_HEADER: Final = "x-delivery-count"
"""How often the broker took the message back from somebody; absent at first (RabbitMQ, quorum queues: poison messages)."""


class Work(Protocol):
    """What is done with messages; given by `wiring`. Any number of calls at once, but one per run."""

    def room(self) -> int:
        """Return how many more runs may be taken; those within `take` count as taken from its first step on."""

    async def wait_for_room(self) -> None:
        """Come back when there is room."""

    async def take(self, run_id: str) -> None:
        """Claim and define the run, conduct it in the background; return when it is defined, or was already, or is over.

        NotFoundError where there is no such run; StoreError when it can't be done now: RunBusyError while another has it.
        """

    async def give_up(self, run_id: str, message: str) -> None:
        """End the run, unless it is defined, as `failed` with reason `engine_fault`; errors as of `take`."""

    async def accept(self, request: RunRequest) -> None:
        """Store what is asked for; the same idempotency key again does nothing. InputError, StoreError."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how often; times in seconds."""

    tries: int = 3
    """Crashes of the work on one message, one process, before it is given up."""
    deaths: int = 10
    """Processes that may die with the message in hand. Below the broker's own limit, and far above what chance brings."""
    first_pause_s: float = 0.5
    longest_pause_s: float = 15.0
    patience_s: float = 600.0
    """How long a message is held while nothing can be done; RabbitMQ's own limit is 30 minutes (consumer_timeout)."""
    room_s: float = 2.0
    """How long a message that came when the room was gone waits for a run to end here."""
    drain_s: float = 10.0
    """How long what is in hand may take when the process is to end."""


class Answer(Enum):
    """What to do with a message when its work is over."""

    DONE = auto()
    COPY = auto()
    """Put a copy at the end of the queue."""
    KEEP = auto()
    """Nothing: it goes back when the connection ends."""


class Consumer:
    """Takes submissions as long as `work` has room for them, while `run` runs."""

    def __init__(
        self,
        url: str,
        publisher: Publisher,
        work: Work,
        *,
        names: Names = NAMES,
        prefetch: int = 32,
        pace: Pace = Pace(),
    ) -> None:
        self.trouble: str | None = "not connected to the message queue yet"
        self._url = url
        self._publisher = publisher
        self._work = work
        self._names = names
        self._prefetch = prefetch
        self._pace = pace
        self._stop = asyncio.Event()
        self._full = asyncio.Event()
        self._hands: asyncio.TaskGroup
        self._in_hand: set[asyncio.Task[None]] = set()
        self._under_way: dict[str, asyncio.Task[Answer | UnusableError]] = {}

    async def run(self) -> None:
        """Consume until `stop`, then finish what is in hand. Cancelled, it lets go of it: the messages go back."""
        async with asyncio.TaskGroup() as self._hands:
            await keep(self._url, "consumer", self._session, stop=self._stop, tell=self._tell)
            for task in (*self._in_hand, *self._under_way.values()):
                task.cancel()

    def stop(self) -> None:
        """Take no more messages; `run` ends when those in hand are done, after `drain_s` at the latest."""
        self._stop.set()

    # ---------------------------------------------------------------------------------------------------- the queue

    async def _session(self, connection: AbstractConnection) -> None:
        channel = connection.channel(publisher_confirms=False)
        await channel.initialize()
        queue, _ = await declare(channel, self._names)
        deleted = asyncio.Event()
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: deleted.set())
        self._tell(None)
        log.info("message queue serves", extra={"queue": mask(self._url), "role": "consumer"})
        while not self._stop.is_set():
            await first_of(self._work.wait_for_room(), self._stop.wait(), channel.closed())
            if (room := self._work.room()) > 0 and not self._stop.is_set():
                self._full.clear()
                await channel.set_qos(prefetch_count=min(self._prefetch, room), timeout=DECLARE_S)
                tag = await queue.consume(self._receive, timeout=DECLARE_S)
                await first_of(self._full.wait(), self._stop.wait(), deleted.wait(), channel.closed())
                if not (deleted.is_set() or channel.is_closed):
                    await queue.cancel(tag, timeout=DECLARE_S)
            if deleted.is_set() or channel.is_closed:
                raise QueueError(f"the message queue at {mask(self._url)} does not give us messages any more")
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=self._pace.drain_s)

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        task = self._hands.create_task(self._handle(message), name=f"message {message.delivery_tag}")
        self._in_hand.add(task)
        task.add_done_callback(self._in_hand.discard)

    async def _handle(self, message: AbstractIncomingMessage) -> None:
        """Do what the message says and answer the broker; never fails."""
        try:
            with foreign_errors(self._url):
                await self._answer(message, await self._find_answer(message))
        except StrettoError as error:
            # the channel is gone, or the copy can't be sent: the message comes again
            log.info("message comes again", extra={"queue": mask(self._url), "error": error.message})
            await self._return(message)
        except Exception:
            log.exception("message not handled", extra={"queue": mask(self._url)})
            await self._return(message)

    async def _return(self, message: AbstractIncomingMessage) -> None:
        try:
            with foreign_errors(self._url):
                if not message.channel.is_closed:
                    await self._pause(self._pace.longest_pause_s)
                    await message.nack(requeue=True)
        except StrettoError:
            pass  # it went back with its channel

    async def _answer(self, message: AbstractIncomingMessage, answer: Answer | UnusableError) -> None:
        if answer is Answer.KEEP:
            return
        if isinstance(answer, UnusableError):
            log.warning("message unusable", extra={"reason": answer.reason, "error": answer.message})
            await self._publisher.bury(
                message.body, answer.reason, answer.message, headers=_headers(message), message_id=message.message_id
            )
        elif answer is Answer.COPY:
            await self._publisher.send(message.body, headers=_headers(message), message_id=message.message_id)
        await message.ack()

    # ----------------------------------------------------------------------------------------------------- the work

    async def _find_answer(self, message: AbstractIncomingMessage) -> Answer | UnusableError:
        deaths = message.headers.get(DELIVERIES_HEADER, 0)
        died = isinstance(deaths, int) and deaths >= self._pace.deaths
        try:
            parcel = decode(message.body, message_id=message.message_id, user=message.user_id)
            match parcel:
                case RunMessage(run_id):
                    return await self._take(run_id, died=died)
                case RequestMessage(request):
                    return await self._accept(request, died=died)
        except UnusableError as error:
            return error

    async def _take(self, run_id: str, *, died: bool) -> Answer | UnusableError:
        """Take the run once, however many messages tell of it."""
        if run_id not in self._under_way and not died and self._work.room() <= 0:
            self._full.set()
            await first_of(self._work.wait_for_room(), self._stop.wait(), asyncio.sleep(self._pace.room_s))
            if self._work.room() <= 0:
                return Answer.COPY
        if (task := self._under_way.get(run_id)) is None:
            task = self._hands.create_task(self._take_alone(run_id, died=died), name=f"take {run_id}")
            self._under_way[run_id] = task
            task.add_done_callback(lambda _: self._under_way.pop(run_id, None))
        await asyncio.wait([task])
        return task.result()

    async def _take_alone(self, run_id: str, *, died: bool) -> Answer | UnusableError:
        """Take the run or give it up; never fails."""
        try:
            if died:
                message = f"{self._pace.deaths} conductors ended with this run in hand before it was compiled"
            else:
                try:
                    return await self._try(lambda: self._work.take(run_id))
                except _CrashedError as error:
                    message = f"the run could not be compiled: {error}"
            answer = await self._try(lambda: self._work.give_up(run_id, message))
        except NotFoundError as error:
            return UnusableError(UNKNOWN_RUN, error.message)
        except _CrashedError as error:
            return UnusableError(CRASHED, f"the run could not even be ended: {error}")
        return UnusableError(CRASHED, message) if answer is Answer.DONE else answer

    async def _accept(self, request: RunRequest, *, died: bool) -> Answer | UnusableError:
        if died:
            return UnusableError(CRASHED, f"{self._pace.deaths} conductors ended with this message in hand")
        try:
            return await self._try(lambda: self._work.accept(request), refusals=(InputError,))
        except InputError as error:
            return UnusableError(BAD_REQUEST, error.message)
        except _CrashedError as error:
            return UnusableError(CRASHED, f"the request could not be stored: {error}")

    async def _try(
        self, act: Callable[[], Awaitable[None]], *, refusals: tuple[type[InputError], ...] = (NotFoundError,)
    ) -> Answer:
        """Do it until it is done or hopeless: `refusals` are raised at once, _CrashedError after `tries` crashes."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._pace.patience_s
        crashes, pause_s = 0, self._pace.first_pause_s
        while True:
            try:
                await act()
                if self._work.room() <= 0:
                    self._full.set()
                return Answer.DONE
            except refusals:
                raise
            except StoreError as error:
                log.info("message held", extra={"error": error.message})
            except Exception as error:
                crashes += 1
                log.exception("message crashed", extra={"crashes": crashes})
                if crashes >= self._pace.tries:
                    raise _CrashedError(f"{type(error).__name__}: {str(error)[:300]}") from error
            if self._stop.is_set():
                return Answer.KEEP
            if loop.time() >= until:
                return Answer.COPY
            await self._pause(pause_s)
            pause_s = min(2 * pause_s, self._pace.longest_pause_s)

    async def _pause(self, seconds: float) -> None:
        await first_of(self._stop.wait(), asyncio.sleep(seconds))

    def _tell(self, trouble: str | None) -> None:
        self.trouble = trouble


class _CrashedError(Exception):
    """The work failed, time and again, in a way that is nobody's but ours."""


def _headers(message: AbstractIncomingMessage) -> dict[str, Any]:
    """Return the sender's headers: not the broker's count of deliveries, which begins anew."""
    return {name: value for name, value in message.headers.items() if name != DELIVERIES_HEADER}
