"""The conductor of a server: takes runs that nobody holds and carries them on, as many at once as it may, until it is drained.

It holds one lease for all its runs. Work is noticed by what the store tells of changes; a slow poll stands behind that. While the
store is away jobs go on; runs are carried on under the same claims when it is back in time, and are let go when it is not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from stretto.core.errors import FenceLostError, NotFoundError, RunBusyError, StoreError
from stretto.core.ports import Claim, Wanted
from stretto.engine.conductor import CANCEL
from stretto.engine.leases import Lease, hold
from stretto.engine.slots import Slots
from stretto.engine.tenure import Means, Tenure, carry_on, give_up

log = logging.getLogger(__name__)

POLL_S: Final = 5.0
"""How long to rely on the store to tell of changes before looking all the same."""
IDLE_SHARE: Final = 9.0
"""How many times as long as a look took the next one waits: looking takes no more than a tenth of the time."""
LONGEST_PAUSE_S: Final = 0.2
"""What the next look waits at most: one that took long did so among a hundred runs that go on here, and some end soon."""
RETRY_S: Final = (0.2, 5.0)
"""The shortest and longest wait before something is tried again that failed for want of the store or by a bug."""
RELEASE_TIMEOUT_S: Final = 3.0
DRAIN_S: Final = 8.0
"""How long a drain may take. It takes milliseconds, unless the store is away."""
REAP_EVERY_S: Final = 600.0
"""How often what is left of runs that are over is looked for. Every take-over cleans up after its own run at once."""

_ASKED: Final = """
SELECT DISTINCT run.id, run.held FROM request JOIN run ON run.number = request.run
WHERE request.kind = ? AND run.ended_at IS NULL
  AND (run.owner = ? OR NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.run = run.number AND attempt.status = 'running'))
"""
"""Runs of which something is asked, but for those of others that may have attempts where this conductor can't reach them."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a worker works: see `[conductor]` of the settings. Without `undefined`, runs without spec come only by `take`."""

    place: str
    runs: int = 100
    lease_s: float = 15.0
    abandon_s: float = 300.0
    undefined: bool = True


@dataclass(slots=True, eq=False)
class _Held:
    """A run that is held: `bell` rings when something is asked of it."""

    claim: Claim
    task: asyncio.Task[None] | None = None
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    defined: asyncio.Event = field(default_factory=asyncio.Event)


class Worker:
    """Conducts runs. `run` is to be awaited once; `drain` and `take` may be called from other tasks while it is."""

    def __init__(
        self, means: Means, slots: Slots, terms: Terms, *, owner: str, reap: Callable[[], Awaitable[int]]
    ) -> None:
        """`owner` names this process among conductors; `reap` removes what drivers have of runs that are over."""
        self._means = means
        self._slots = slots
        self._terms = terms
        self._name = owner
        self._reap = reap
        self._held: dict[str, _Held] = {}
        self._news = asyncio.Event()
        self._freed = asyncio.Event()
        self._draining = asyncio.Event()
        self._ended = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None
        self._cut_off = False
        self._group: asyncio.TaskGroup | None = None
        self._lease: Lease | None = None

    @property
    def held(self) -> int:
        """How many runs are held now."""
        return len(self._held)

    def usage(self) -> dict[str, tuple[int, int]]:
        """Return for each driver how many slots are taken, and how many there are."""
        return self._slots.usage()

    @property
    def room(self) -> int:
        """How many more runs it would take now."""
        return 0 if self._lease is None or self._draining.is_set() else max(0, self._terms.runs - self.held)

    async def wait_for_room(self) -> None:
        """Come back when there is room for one more run."""
        while self.room == 0:
            self._freed.clear()
            await self._wait_for(self._freed, POLL_S)

    async def run(self) -> None:
        """Conduct runs until `drain` is called; whatever goes wrong with the store in between is waited out."""
        self._task = asyncio.current_task()
        try:
            await self._work()
        except asyncio.CancelledError:
            if not self._cut_off or (self._task is not None and self._task.uncancel() > 0):
                raise  # not (only) our own `drain`
        finally:
            self._ended.set()

    async def drain(self) -> None:
        """Claim nothing more, hand all runs over and return when that is done. Attempts go on; others adopt them.

        What can't be handed over in time, as the store is away, is let go: its lease runs out.
        """
        self._draining.set()
        self._news.set()
        self._freed.set()
        await self._wait_for(self._ended, DRAIN_S)
        if not self._ended.is_set() and self._task is not None:
            log.warning("drain cut short", extra={"owner": self._name, "held": self.held})
            self._cut_off = True
            self._task.cancel()
            await self._ended.wait()

    async def take(self, run_id: str) -> None:
        """Claim this run and return once it is defined or over, or held by another; for runs that a queue tells of.

        NotFoundError; StoreError where nothing can be claimed now: while the store is away, or the worker is being drained.
        """
        while self.held >= self._terms.runs and not self._draining.is_set():
            self._freed.clear()
            await self._wait_for(self._freed, POLL_S)
        group, lease = self._group, self._lease
        if group is None or lease is None or self._draining.is_set():
            raise StoreError("this conductor claims nothing now")
        if (held := self._held.get(run_id)) is None:
            stored = await self._means.store.load(run_id)
            if stored.request is None or stored.row.ended_at is not None:
                return
            try:
                claim = await self._means.store.claim(run_id, lease.owner, lease.place)
            except RunBusyError:
                return
            if self._lease is not lease or self._draining.is_set():
                await self._release(claim, lease)
                raise StoreError("this conductor claims nothing any more")
            held = self._begin(group, lease, claim)
        if held.task is not None:
            waiting = asyncio.create_task(held.defined.wait(), name=f"defined {run_id}")
            await asyncio.wait({waiting, held.task}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        if not held.defined.is_set():
            raise StoreError(f"run {run_id} was handed over before it was defined")

    async def give_up(self, run_id: str, message: str) -> None:
        """End a run that has no spec as `failed`, with reason `engine_fault`; one that has a spec or an end is left alone.

        NotFoundError; StoreError as of `take`, RunBusyError where a live conductor has the run, this one for example.
        """
        lease = self._lease
        if lease is None or self._draining.is_set():
            raise StoreError("this conductor claims nothing now")
        if run_id in self._held:
            raise RunBusyError(f"run {run_id} is being conducted here")
        claim = await self._means.store.claim(run_id, lease.owner, lease.place)
        try:
            await give_up(self._means, claim, message)
        finally:
            await self._release(claim, lease)

    # ------------------------------------------------------------------------------------------------------ serving

    async def _work(self) -> None:
        """Hold one lease after the other, until the worker is drained."""
        pause_s, tenures = RETRY_S[0], 0
        while not self._draining.is_set():
            tenures += 1
            owner = f"{self._name}/{tenures}"  # what was held under a lease that ran out is anybody's
            terms = self._terms
            try:
                async with hold(self._means.store, owner, lease_s=terms.lease_s, place=terms.place) as lease:
                    pause_s = RETRY_S[0]
                    await self._serve(lease)
                await self._give_up_lease(owner)
            except StoreError as error:
                log.warning("conductor without its store", extra={"owner": owner, "error": error.message})
            except Exception:
                log.exception("bug in the conductor", extra={"owner": owner})
            else:
                return
            _heed_cancel()
            await self._pause(pause_s)
            pause_s = min(2 * pause_s, RETRY_S[1])

    async def _serve(self, lease: Lease) -> None:
        """Take and conduct runs under this lease until the worker is drained."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group, self._lease = group, lease
                self._freed.set()
                helpers = [
                    group.create_task(self._watch(), name="watch for changes"),
                    group.create_task(self._reap_now_and_then(), name="reap"),
                ]
                looking = group.create_task(self._look(group, lease), name="look for work")
                await self._draining.wait()
                await looking  # a claim that is under way must not be forgotten
                await asyncio.sleep(0)  # a task that was not begun when it is cancelled would not release its claim
                for task in [*helpers, *(held.task for held in self._held.values() if held.task is not None)]:
                    task.cancel()
        finally:
            self._group = self._lease = None

    async def _watch(self) -> None:
        """Tell of changes of the store."""
        pause_s = RETRY_S[0]
        while True:
            try:
                await self._means.store.wait_for_change(POLL_S)
                pause_s = RETRY_S[0]
            except StoreError:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, POLL_S)
            self._news.set()

    async def _look(self, group: asyncio.TaskGroup, lease: Lease) -> None:
        """Look for runs to take, and for what is asked of runs, whenever something changed."""
        clock = asyncio.get_running_loop()
        while not self._draining.is_set():
            self._news.clear()
            began = clock.time()
            try:
                if (room := self._terms.runs - self.held) > 0:
                    await self._claim(group, lease, room)
                await self._hear(group, lease)
            except StoreError as error:
                log.warning("no look for work", extra={"owner": lease.owner, "error": error.message})
                await self._pause(RETRY_S[0])
            await self._pause(min(IDLE_SHARE * (clock.time() - began), LONGEST_PAUSE_S))
            if not self._draining.is_set():
                await self._news.wait()

    async def _claim(self, group: asyncio.TaskGroup, lease: Lease, room: int) -> None:
        terms = self._terms
        wanted = Wanted(room, place=terms.place, undefined=terms.undefined, abandon_s=terms.abandon_s)
        for claim in await self._means.store.claim_next(lease.owner, wanted):
            self._begin(group, lease, claim)

    async def _hear(self, group: asyncio.TaskGroup, lease: Lease) -> None:
        """Ring for runs of which something is asked; take those that nobody holds, full or not: it won't be for long."""
        for run_id, is_held in await self._means.store.tables.read(_ASKED, CANCEL, lease.owner):
            if (held := self._held.get(run_id)) is not None:
                held.bell.set()
            elif not is_held:
                try:
                    claim = await self._means.store.claim(run_id, lease.owner, lease.place)
                except (RunBusyError, NotFoundError):
                    continue
                self._begin(group, lease, claim)

    async def _reap_now_and_then(self) -> None:
        while True:
            try:
                if count := await self._reap():
                    log.info("removed what was left behind", extra={"count": count})
            except Exception as error:
                log.warning("what is left behind could not be removed", exc_info=error)
            await asyncio.sleep(REAP_EVERY_S)

    # -------------------------------------------------------------------------------------------------------- a run

    def _begin(self, group: asyncio.TaskGroup, lease: Lease, claim: Claim) -> _Held:
        held = self._held[claim.run_id] = _Held(claim)
        held.task = group.create_task(self._hold_run(held, lease), name=f"run {claim.run_id}")
        held.task.add_done_callback(lambda _: self._forget(held))
        return held

    def _forget(self, held: _Held) -> None:
        if self._held.get(held.claim.run_id) is held:  # else it was released, and claimed again at once
            del self._held[held.claim.run_id]
        self._news.set()
        self._freed.set()

    async def _hold_run(self, held: _Held, lease: Lease) -> None:
        """Carry a run on until it is over or lost, and release it."""
        try:
            await self._carry_on(held, lease)
        finally:
            await self._release(held.claim, lease)

    async def _carry_on(self, held: _Held, lease: Lease) -> None:
        run_id = held.claim.run_id

        async def changes(_: str) -> None:
            await held.bell.wait()
            held.bell.clear()

        tenure = Tenure(held.claim, self._slots, lease.held, changes, defined=held.defined.set)
        pause_s = RETRY_S[0]
        while lease.held():
            try:
                await carry_on(self._means, tenure)
                return
            except FenceLostError as error:
                log.info("run lost to another conductor", extra={"run": run_id, "error": error.message})
                return
            except StoreError as error:
                log.warning("run interrupted", extra={"run": run_id, "error": error.message})
            except Exception:
                log.exception("bug while a run was conducted", extra={"run": run_id})
            _heed_cancel()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S[1])

    async def _release(self, claim: Claim, lease: Lease) -> None:
        """Give the run back; nobody gets it while this one's lease is good and says that it is held."""
        while lease.held():
            try:
                async with asyncio.timeout(RELEASE_TIMEOUT_S):
                    await self._means.store.release(claim)
                return
            except FenceLostError:
                return  # another has it, which is what a release is for
            except (StoreError, TimeoutError) as error:
                log.warning("run not released", extra={"run": claim.run_id, "error": str(error)})
            if self._draining.is_set():
                return  # the lease is given up at the end of it
            await self._pause(RETRY_S[0])

    async def _give_up_lease(self, owner: str) -> None:
        """Let others take at once whatever could not be released."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._means.store.keep_lease(owner, 0.0, self._terms.place)
        except (StoreError, TimeoutError) as error:
            log.warning("lease not given up", extra={"owner": owner, "error": str(error)})

    async def _pause(self, seconds: float) -> None:
        """Let time pass, unless the worker is drained."""
        await self._wait_for(self._draining, seconds)

    @staticmethod
    async def _wait_for(event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass


def _heed_cancel() -> None:
    """End the task if that was asked for: a TaskGroup that has an error of its own to tell forgets it (Python 3.11)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
