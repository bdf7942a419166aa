"""The outbox: every run that was accepted gets into the queue, whatever dies between the database and there.

A submission row without a time of publication *is* the outbox. Whoever accepted the run tells the queue at once (`tell`, off
the request's path); each API server and conductor also looks for what nobody told (`sweep`). Telling twice is harmless.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from stretto.core.errors import StrettoError
from stretto.core.ports import Store
from stretto.doors.amqp.publisher import Publisher

log = logging.getLogger(__name__)

PAGE: Final = 200
MOST_WAITING: Final = 10_000
"""Ids kept for telling at once; any more are left to the sweep, which finds them in the database."""
_NEVER_S: Final = 1e9


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When the sweep looks (seconds), and for what: runs that nobody told of, and runs told of that are still undefined."""

    every_s: float = 2.0
    untold_s: float = 5.0
    again_s: float = 60.0


class Outbox:
    """Tells the queue of the store's undefined runs, while `run` runs."""

    def __init__(self, store: Store, publisher: Publisher, *, rhythm: Rhythm = Rhythm()) -> None:
        self._store = store
        self._publisher = publisher
        self._rhythm = rhythm
        self._waiting: dict[str, None] = {}
        self._some = asyncio.Event()

    def tell(self, run_ids: Iterable[str]) -> None:
        """Have these runs, which the store has, told of soon; returns at once and never fails."""
        for run_id in run_ids:
            if len(self._waiting) < MOST_WAITING:
                self._waiting[run_id] = None
        self._some.set()

    async def run(self) -> None:
        """Tell and sweep until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send(), name="outbox sender")
            group.create_task(self._sweep_on(), name="outbox sweeper")

    async def sweep(self) -> int:
        """Tell of all that nobody told of, once; return how many runs that were. QueueError, StoreError.

        A run that was told of long ago is told of again only when the queue is empty: while messages wait there its own is
        most likely among them, and telling of a long backlog every minute would make it longer every minute.
        """
        count = 0
        while True:
            backlog = await self._publisher.depth()
            run_ids = await self._store.unpublished(
                older_than_s=self._rhythm.untold_s,
                again_after_s=_NEVER_S if backlog else self._rhythm.again_s,
                limit=PAGE,
            )
            told = await self._publish(run_ids) if run_ids else 0
            count += told
            if told < PAGE:
                return count

    async def _send(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            waiting, self._waiting = list(self._waiting), {}
            try:
                await self._publish(waiting)
            except StrettoError as error:
                log.warning("runs left to the sweep", extra={"runs": len(waiting), "error": error.message})

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(self._rhythm.every_s * random.uniform(0.5, 1.5))  # not all processes at once
            if self._publisher.trouble is not None:
                continue
            try:
                if count := await self.sweep():
                    log.warning("runs told of again", extra={"runs": count})
            except StrettoError as error:
                log.warning("outbox not swept", extra={"error": error.message})

    async def _publish(self, run_ids: list[str]) -> int:
        told = await self._publisher.tell(run_ids)
        await self._store.mark_published(told)
        return len(told)
