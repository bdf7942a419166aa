"""The loop that owns a run: take in facts, decide, record, act; until the run is over.

Everything the loop does outside follows from an event that is on disk, and is done again after a crash. The loop holds no state
that is not in the run; to take a run over is to replay its events and act on what is under way.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stretto.core import events as ev
from stretto.core.decide import advance, next_wake
from stretto.core.errors import FenceLostError, StrettoError
from stretto.core.frozen import frozen
from stretto.core.ports import Claim, Driver, Launch, Store, Tree, Trees
from stretto.core.run import JobRun, Run
from stretto.core.spec import AttemptKey
from stretto.core.states import Reason, Status
from stretto.engine import ahead
from stretto.engine.attempt import REMOVE_TIMEOUT_S, Attendant, Places
from stretto.engine.slots import Claimant, Slots

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 60.0
"""How long the loop sleeps at most: a wall clock that jumped (a laptop that slept) must not hide a time limit for longer."""
PATIENCE_S = 0.05
"""How long a fact that nothing waits for may wait to be written together with others."""
CANCEL = "cancel"
"""The kind of request that `_listen` knows."""
CHANGE_TIMEOUT_S = 2.0
"""How long to wait for the store to tell of a change before looking all the same."""

Watcher = Callable[[Run, Sequence[ev.Event]], None]
"""Called after events are on disk; must not block."""


@frozen
class Parts:
    """What a conductor works with.

    `prepare_ahead` is how many attempts may be made ready before they are allowed to start; `place` names the back-ends that
    the drivers reach, None where there is no other; `owns` says, by this process's own clock, whether the lease is good still;
    `draw` gives random numbers in [0, 1). `changes` comes back when something may be asked of the run with this id; None: when
    the store changes.
    """

    store: Store
    drivers: Mapping[str, Driver]
    trees: Trees
    places: Places
    slots: Slots
    attempts: Path
    prepare_ahead: int = 3
    place: str | None = None
    changes: Callable[[str], Awaitable[object]] | None = None
    owns: Callable[[], bool] = lambda: True
    draw: Callable[[], float] = random.random


class Conductor:
    """Conducts one claimed run. Make it with the run as replayed, then `await conduct()` once."""

    def __init__(
        self, parts: Parts, claim: Claim, run: Run, *, number: int, priority: int = 0, watch: Watcher | None = None
    ) -> None:
        self.parts = parts
        self.claim = claim
        self.run = run
        self.number = number
        self.watch = watch
        self._inbox: list[ev.Event] = []
        self._settled: list[int] = []
        self._seen_requests: set[int] = set()
        self._wake = asyncio.Event()
        self._patience: asyncio.TimerHandle | None = None
        self._grace_s = parts.places.grace_s
        self._share = parts.slots.join(Claimant(run.id, run.by, run.spec.name, priority), self._wake.set)
        self._under_way: Counter[str] = Counter()
        self._attendants: dict[str, Attendant] = {}
        self._prepared: dict[str, asyncio.Task[None]] = {}
        self._checkout: asyncio.Task[Path | None] | None = None
        self._may_prepare = parts.prepare_ahead > 0 and any(
            parts.drivers[name].prepares for name in {job.driver for job in run.spec.jobs} if name in parts.drivers
        )

    async def conduct(self) -> Run:
        """Carry the run on to its end and return it. Cancelling this leaves attempts running, to be adopted later."""
        try:
            async with asyncio.TaskGroup() as group:
                listener = group.create_task(self._listen(), name="listen")
                self._take_up(group)
                await self._loop(group)
                listener.cancel()
        except* StrettoError as errors:
            raise errors.exceptions[0] from None
        finally:
            self._share.leave()
            if self._patience is not None:
                self._patience.cancel()
            if self._checkout is not None:
                self._checkout.cancel()
        return self.run

    # --------------------------------------------------------------------------------------------------------- loop

    async def _loop(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._wake.clear()
            await self._step(group)
            if self.run.is_over:
                return
            await self._sleep()

    async def _sleep(self) -> None:
        """Wait until something is posted or due."""
        due = next_wake(self.run)
        if due is None:
            await self._wake.wait()
            return
        wait_s = min(LOOK_AGAIN_S, max(0.0, (due - self.parts.places.clock.now()).total_seconds()))
        timer = asyncio.get_running_loop().call_later(wait_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _step(self, group: asyncio.TaskGroup) -> None:
        """Take in what came, decide, put all of it on disk in one transaction, act."""
        facts, self._inbox = self._inbox, []
        settled, self._settled = self._settled, []
        for fact in facts:
            self.run.apply(fact)
            if type(fact) is ev.AttemptEnded and fact.job in self._attendants:
                driver = self.run.job(fact.job).spec.driver
                self._under_way[driver] -= 1
                self._share.give_back(driver)
        free = {driver: self._share.free(driver) for driver in self.run.queued}
        now, draw = self.parts.places.clock.now(), self.parts.draw
        decisions = advance(self.run, now, free_slots=free, draw=draw, place=self.parts.place)
        for event in decisions:
            if type(event) is ev.AttemptStarting:
                self._under_way[self.run.job(event.job).spec.driver] += 1
        self._settle_slots()
        if facts or decisions or settled:
            events = [*facts, *decisions]
            await self.parts.store.commit(self.claim, events, self.run.take_changes(), settled)
            self._act(group, events)
            if self.watch is not None:
                self.watch(self.run, events)
        if self._may_prepare and not self.run.is_over:
            self._prepare(group)

    def _settle_slots(self) -> None:
        """Have taken the slots that are used, and wait for those that are wanted."""
        for driver, waiting in self.run.queued.items():
            self._share.settle(driver, used=self._under_way[driver], wanted=len(waiting))

    def _act(self, group: asyncio.TaskGroup, events: Sequence[ev.Event]) -> None:
        """Do outside what the events, now on disk, ask for."""
        for event in events:
            if type(event) is ev.AttemptStarting:
                self._attend(group, self.run.job(event.job))
            elif type(event) is ev.StopRequested:
                if (attendant := self._attendants.get(event.job)) is not None:
                    group.create_task(attendant.stop(grace_s=self._grace_s), name=f"stop {event.job}")
            elif type(event) is ev.AttemptEnded:
                if (attendant := self._attendants.pop(event.job, None)) is not None:
                    attendant.outcome_is_recorded()
            elif type(event) is ev.JobEnded and event.job in self._prepared:
                group.create_task(self._discard(self.run.job(event.job)), name=f"discard {event.job}")

    def _post(self, event: ev.Event) -> None:
        """Take in a fact. That an attempt started may wait for company: it is found again by its key without a handle."""
        self._inbox.append(event)
        if type(event) is not ev.AttemptStarted:
            self._wake.set()
        elif self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(PATIENCE_S, self._lose_patience)

    def _lose_patience(self) -> None:
        self._patience = None
        self._wake.set()

    # ----------------------------------------------------------------------------------------------------- attempts

    def _take_up(self, group: asyncio.TaskGroup) -> None:
        """Go on with what was under way when the run was claimed, but for what is where nobody reaches it."""
        for i in self.run.running:
            job = self.run.jobs[i]
            place = job.attempts[-1].place
            if place is None or self.parts.place in (None, place):
                self._under_way[job.spec.driver] += 1
                self._attend(group, job, adopted=True)
            else:
                self._give_up(job, place)
        self._settle_slots()

    def _give_up(self, job: JobRun, place: str) -> None:
        """End an attempt at a place of which nothing was heard for so long that the run could be claimed elsewhere."""
        number = job.attempts[-1].number
        message = f"it ran at place {place!r}, where no conductor is left"
        log.warning("attempt given up", extra={"attempt": self.run.key(job).text, "place": place})
        lost = ev.Outcome(Status.FAILED, reason=Reason.LOST, message=message)
        self._post(ev.AttemptEnded(self.parts.places.clock.now(), job.spec.name, number, lost))

    def _attend(self, group: asyncio.TaskGroup, job: JobRun, *, adopted: bool = False) -> None:
        attempt = job.attempts[-1]
        key = self.run.key(job)
        attendant = Attendant(
            key,
            job,
            self._driver(job),
            self._directory(key),
            adopted=adopted,
            places=self.parts.places,
            launch=self._launch,
            post=self._post,
        )
        self._attendants[job.spec.name] = attendant
        group.create_task(attendant.run(attempt), name=key.text)

    def _driver(self, job: JobRun) -> Driver:
        try:
            return self.parts.drivers[job.spec.driver]
        except KeyError:
            raise StrettoError(
                f"job {job.spec.name!r} wants driver {job.spec.driver!r}, which is not configured"
            ) from None

    def _directory(self, key: AttemptKey) -> Path:
        return self.parts.attempts / key.name

    async def _launch(self, job: JobRun, key: AttemptKey, directory: Path) -> Launch:
        """Put together what the driver needs; an attempt that is being prepared is waited for first."""
        if (preparing := self._prepared.pop(job.spec.name, None)) is not None:
            try:
                await asyncio.wait([preparing])
            except asyncio.CancelledError:
                preparing.cancel()  # or it would create what nobody waits for any more
                await asyncio.wait([preparing])
                raise
        launch = await self._assemble(job, key, directory)
        self._check_ownership()
        return launch

    def _check_ownership(self) -> None:
        """Refuse to start anything when the lease ran out: a process that stood still may not know yet that it lost the run."""
        if not self.parts.owns():
            raise FenceLostError(f"run {self.run.id}: the lease ran out; another conductor may own it")

    async def _assemble(self, job: JobRun, key: AttemptKey, directory: Path) -> Launch:
        made = self._checkout
        if made is None or (made.done() and (made.cancelled() or made.exception() is not None)):
            made = self._checkout = asyncio.create_task(self.parts.trees.checkout(self.run), name="checkout")
        checkout = made.result() if made.done() else await asyncio.shield(made)
        layers = await ahead.layers(self.run, job, self.parts.places.artifacts)
        lowers = [*layers, *([] if checkout is None else [checkout])]
        return Launch(
            key=key,
            job=job.spec,
            directory=directory,
            tree=Tree(tuple(lowers)) if lowers else None,
            variables={**self._variables(job, key), **job.spec.variables},
        )

    def _variables(self, job: JobRun, key: AttemptKey) -> dict[str, str]:
        """Return what every script can read about itself. Listed in docs/pipeline-yml.md."""
        source = self.run.spec.source
        variables = {
            "CI": "true",
            "STRETTO": "true",
            "STRETTO_RUN_ID": self.run.id,
            "STRETTO_RUN_NUMBER": str(self.number),
            "STRETTO_PIPELINE": self.run.spec.name,
            "STRETTO_STAGE": job.spec.stage,
            "STRETTO_JOB": job.spec.name,
            "STRETTO_ATTEMPT": str(key.number),
        }
        if source is not None:
            variables["STRETTO_COMMIT"] = source.commit
            variables["STRETTO_BRANCH"] = source.branch or ""
            variables["STRETTO_TAG"] = source.tag or ""
        return variables

    # -------------------------------------------------------------------------------------------------------- ahead

    def _prepare(self, group: asyncio.TaskGroup) -> None:
        """Make ready what comes next, as far as its driver and its inputs allow."""
        room = self.parts.prepare_ahead - len(self._prepared)
        for job in ahead.next_jobs(self.run, room, lambda job: self._driver(job).prepares, self._prepared):
            name = job.spec.name
            key = AttemptKey(self.run.id, name, len(job.attempts) + 1)
            self._prepared[name] = group.create_task(self._prepare_one(job, key), name=f"prepare {name}")

    async def _prepare_one(self, job: JobRun, key: AttemptKey) -> None:
        try:
            launch = await self._assemble(job, key, self._directory(key))
            self._check_ownership()
            await self._driver(job).prepare(launch)
        except FenceLostError:
            raise
        except Exception as error:  # start meets the same fault and makes an outcome of it
            log.info("attempt not prepared", extra={"attempt": key.text}, exc_info=error)

    async def _discard(self, job: JobRun) -> None:
        """Take away what was prepared for a job that will not run."""
        preparing = self._prepared.pop(job.spec.name)
        preparing.cancel()
        await asyncio.wait([preparing])
        key = AttemptKey(self.run.id, job.spec.name, len(job.attempts) + 1)
        handle = ev.Handle(job.spec.driver, key.text, {"directory": str(self._directory(key))})
        try:
            async with asyncio.timeout(REMOVE_TIMEOUT_S):
                await self._driver(job).remove(handle)
        except Exception as error:
            log.warning("prepared attempt not removed; gc will try again", extra={"attempt": key.text}, exc_info=error)

    # ------------------------------------------------------------------------------------------------------ waiting

    async def _listen(self) -> None:
        """Take in what other processes ask of the run."""
        while True:
            for request in await self.parts.store.read_requests(self.run.id):
                if request.id in self._seen_requests:
                    continue
                self._seen_requests.add(request.id)
                self._settled.append(request.id)
                if request.kind == CANCEL:
                    await self._take_cancel(request.body)
                self._wake.set()
            if self.parts.changes is None:
                await self.parts.store.wait_for_change(CHANGE_TIMEOUT_S)
            else:
                await self.parts.changes(self.run.id)

    async def _take_cancel(self, body: Mapping[str, Any]) -> None:
        """Cancel the run or one job; with `force`, also end at once what is being stopped with grace."""
        job = body.get("job")
        if job is not None and job not in self.run.graph.index:
            return
        self._post(ev.CancelRequested(self.parts.places.clock.now(), job, body.get("by", "")))
        if body.get("force"):
            self._grace_s = 0.0
            stopping = [a for a in self._attendants.values() if job in (None, a.key.job) and a.is_stopping]
            await asyncio.gather(*(attendant.stop(grace_s=0.0) for attendant in stopping))
