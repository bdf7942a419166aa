"""One random history: a graph, what its jobs do, cancels, crashes and takeovers; lived through and checked at every step."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from stretto.core import events as ev
from stretto.core.errors import DriverError, FenceLostError
from stretto.core.ports import Claim, Request
from stretto.core.run import Run
from stretto.core.spec import AttemptKey, JobSpec, Need, RetryPolicy, RunSpec, When
from stretto.core.states import FINAL, Reason, Status
from stretto.drivers.fake import FakeDriver, FakePlan, FakeWorld
from stretto.engine.attempt import Places
from stretto.engine.conductor import Conductor, Parts
from stretto.engine.recovery import replay, sweep
from stretto.engine.slots import Slots
from tests.simulation.loop import EPOCH, VirtualClock, run_virtually
from tests.simulation.ports import Disk, Life, MortalDriver, MortalLogs, MortalStore, NoArtifacts, NoTrees

RUN_ID = "01simulation00000000000000"
ATTEMPTS = Path("/nonexistent/stretto-simulation")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens in a history. A calm one has nothing whose result depends on time, so crashes must not change it."""

    seed: int
    spec: RunSpec
    calm: bool
    slots: int
    deaths: tuple[int, ...]
    zombies: bool
    cancel_at_s: float | None = None
    cancel_job: str | None = None
    kept: tuple[str, ...] = ()

    def first_events(self) -> list[ev.Event]:
        """Return the events that the run is submitted with."""
        kept = [ev.JobKept(EPOCH, name, f"earlier/{name}/1", 1) for name in self.kept]
        return [ev.RunSubmitted(EPOCH), *kept]


@dataclass(slots=True)
class Told:
    """What a history came to."""

    run: Run
    events: list[ev.Event]
    crashes: int


def scenario(seed: int) -> Scenario:
    """Return the scenario of this seed."""
    random = Random(seed)
    calm = random.random() < 0.4
    stages = tuple(f"s{i}" for i in range(random.randint(1, 4)))
    jobs: list[JobSpec] = []
    for stage in stages:
        same: list[str] = []
        for _ in range(random.choice((0, 1, 1, 2, 3, 5))):
            name = f"j{len(jobs)}"
            candidates = [job.name for job in jobs]
            needs = None
            if random.random() < 0.6:
                count = min(len(candidates), random.choice((0, 1, 1, 2, 3)))
                needs = tuple(Need(other) for other in random.sample(candidates, count))
            jobs.append(
                JobSpec(
                    name=name,
                    stage=stage,
                    driver="fake",
                    needs=needs,
                    when=random.choice((When.ON_SUCCESS,) * 6 + (When.ALWAYS, When.ON_FAILURE)),
                    allow_failure=calm or random.random() < 0.3,
                    retry=RetryPolicy(random.choice((0, 0, 0, 1, 2)), backoff_s=random.choice((0.0, 1.0, 30.0))),
                    timeout_s=None if calm or random.random() < 0.8 else random.choice((0.5, 5.0)),
                )
            )
            same.append(name)
    spec = RunSpec(
        kind="pipeline",
        name="simulated",
        stages=stages,
        jobs=tuple(jobs),
        fail_fast=not calm and random.random() < 0.3,
        timeout_s=None if calm or random.random() < 0.8 else random.choice((1.0, 20.0)),
    )
    cancel = not calm and random.random() < 0.25
    return Scenario(
        seed=seed,
        spec=spec,
        calm=calm,
        slots=random.choice((1, 2, 3, 100)),
        deaths=tuple(random.randint(0, 12 + 10 * len(jobs)) for _ in range(random.choice((0, 1, 1, 2, 5)))),
        zombies=random.random() < 0.2,
        cancel_at_s=random.choice((0.0, 0.3, 2.0, 9.0)) if cancel else None,
        cancel_job=random.choice(jobs).name if cancel and jobs and random.random() < 0.5 else None,
        kept=tuple(job.name for job in jobs if random.random() < 0.2) if random.random() < 0.3 else (),
    )


def plan_of(seed: int, key: AttemptKey) -> FakePlan:
    """Return what this attempt does, whoever starts it and when."""
    random = Random(f"{seed}/{key.job}/{key.number}")
    if random.random() < 0.04:
        return FakePlan(start_error=DriverError("no such image", reason=Reason.IMAGE_MISSING))
    code = random.choice((0, 0, 0, 0, 1, 77))
    return FakePlan(
        duration_s=random.choice((0.0, 0.0, 0.1, 1.0, 7.0)),
        status=Status.FAILED if code else Status.SUCCESS,
        exit_code=code,
        reason=Reason.EXIT_CODE if code else None,
        output=b"x" * random.choice((0, 1, 70_000)),
        ignores_term=random.random() < 0.2,
    )


def live(told: Scenario) -> Told:
    """Live the history through in virtual time and check it; AssertionError names what does not hold."""
    return run_virtually(_live(told))


async def _live(told: Scenario) -> Told:
    disk = Disk(events=told.first_events())
    world = FakeWorld(lambda key, job: plan_of(told.seed, key))
    checker = Checker(told, world)
    checker.see(disk.events)
    disk.on_commit = checker.see
    deaths = list(told.deaths)
    crashes = 0
    zombies: list[asyncio.Task[Run | None]] = []
    asking = asyncio.create_task(_ask_to_cancel(told, disk))
    while True:
        life = Life(Random(f"{told.seed}/{crashes}"), deaths.pop(0) if deaths else None)
        task = asyncio.create_task(_incarnation(told, disk, world, life))
        dying = asyncio.create_task(life.dead.wait())
        await asyncio.wait({task, dying}, return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        if task.done():
            run = task.result()
            break
        crashes += 1
        if told.zombies:  # it does not die: it stood still, and goes on when another has taken over
            life.stand_up()
            zombies.append(task)
            await asyncio.sleep(1.0)  # no lease is shorter than its owner's shortest operation
        else:
            task.cancel()
            await asyncio.wait({task})
        await asyncio.sleep(Random(crashes).choice((0.0, 1.0, 20.0)))
    asking.cancel()
    for zombie in zombies:
        zombie.cancel()
        await asyncio.wait({zombie})
    assert run is not None, "the last owner lost a run that nobody else wanted"
    if zombies:
        await sweep(run, {"fake": FakeDriver(world, VirtualClock())}, ATTEMPTS)
    checker.check_end(run, disk)
    assert not world.keys, f"left behind: {world.keys}"
    return Told(run, disk.events, crashes)


async def _incarnation(told: Scenario, disk: Disk, world: FakeWorld, life: Life) -> Run | None:
    """Conduct the run as one process would; None when another took it over."""
    clock = VirtualClock()
    disk.fence += 1
    claim = Claim(RUN_ID, f"owner-{disk.fence}", disk.fence)
    driver = MortalDriver(FakeDriver(world, clock), life)
    parts = Parts(
        store=MortalStore(disk, life),  # type: ignore[arg-type]  # the part of a store that a conductor uses
        drivers={"fake": driver},
        trees=NoTrees(),
        places=Places(
            logs=MortalLogs(disk, life),  # type: ignore[arg-type]
            artifacts=NoArtifacts(),  # type: ignore[arg-type]
            clock=clock,
            artifacts_limit_bytes=0,
            grace_s=3.0,
        ),
        slots=Slots(told.slots),
        attempts=ATTEMPTS,
        prepare_ahead=2,
        owns=lambda: not life.lease_is_lost,
        draw=Random(told.seed).random,
    )
    run = replay(RUN_ID, told.spec, tuple(disk.events))
    await sweep(run, parts.drivers, ATTEMPTS)
    try:
        return await Conductor(parts, claim, run, number=1).conduct()
    except FenceLostError:
        return None


async def _ask_to_cancel(told: Scenario, disk: Disk) -> None:
    if told.cancel_at_s is not None:
        await asyncio.sleep(told.cancel_at_s)
        disk.requests[1] = Request(1, RUN_ID, "cancel", {"job": told.cancel_job, "by": "simulation"})


@dataclass(slots=True)
class Checker:
    """Looks at every event as it reaches the disk. Written against the promises, not against the engine."""

    told: Scenario
    world: FakeWorld
    run_id: str = RUN_ID
    specs: dict[str, JobSpec] = field(init=False)
    final: dict[str, Status] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    attempts: dict[str, int] = field(default_factory=dict)
    canceled: bool = False
    blocked: bool = False
    timed_out: bool = False
    over: bool = False
    stops: dict[str, str] = field(default_factory=dict)
    unwanted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.specs = {job.name: job for job in self.told.spec.jobs}

    def see(self, events: Sequence[ev.Event]) -> None:
        """Check events that just became durable."""
        for event in events:
            assert not self.over, f"{event} after the end"
            self._see(event)

    def _see(self, event: ev.Event) -> None:
        match event:
            case ev.CancelRequested(job=None):
                self.canceled = True
            case ev.CancelRequested(job=str(name)):
                self.unwanted.add(name)
            case ev.JobKept(job=name):
                self._finish(name, Status.SUCCESS)
            case ev.RunTimedOut():
                self.timed_out = True
            case ev.AttemptStarting(job=name, number=number):
                self._check_start(name, number)
            case ev.StopRequested(job=name, reason=reason):
                assert name in self.running
                self.stops[name] = reason
            case ev.AttemptEnded(job=name, number=number, outcome=outcome):
                assert name in self.running
                self.running.discard(name)
                self._check_outcome(name, number, outcome)
            case ev.JobEnded(job=name, status=status):
                assert name not in self.running
                assert name not in self.final
                self._finish(name, status)
            case ev.RunEnded():
                self.over = True
                missing = set(self.specs) - set(self.final)
                assert not missing, f"the run ended, {missing} did not"
            case _:
                pass

    def _check_start(self, name: str, number: int) -> None:
        spec = self.specs[name]
        assert name not in self.running, f"{name} runs twice"
        assert name not in self.final, f"{name} starts after its end"
        assert name not in self.unwanted, f"{name} starts though it was to be canceled"
        assert number == self.attempts.get(name, 0) + 1
        assert number <= spec.retry.max_retries + 1
        assert not self.canceled, f"{name} starts after the cancel"
        assert not self.timed_out, f"{name} starts after the time limit"
        if self.blocked:
            assert spec.when is not When.ON_SUCCESS, f"{name} starts though the run was stopped"
            assert number == 1, f"{name} is tried again though the run was stopped"
        earlier = self._waits_for(spec)
        for other in earlier:
            assert other in self.final, f"{name} starts before {other} is over"
        if spec.when is When.ON_SUCCESS and spec.needs is not None:
            assert all(self.final[other] is Status.SUCCESS for other in earlier), f"{name} starts though a need failed"
        if spec.when is When.ON_FAILURE:
            assert any(self.final[other] is Status.FAILED for other in earlier)
        self.attempts[name] = number
        self.running.add(name)
        adopted = self.told.zombies or self.told.deaths
        assert adopted or len(self.running) <= self.told.slots, "more attempts than slots"

    def _check_outcome(self, name: str, number: int, outcome: ev.Outcome) -> None:
        plan = plan_of(self.told.seed, AttemptKey(self.run_id, name, number))
        ran = self.world.runs_of(AttemptKey(self.run_id, name, number))
        assert ran <= 1, f"{name}/{number} ran {ran} times"
        stopped = self.stops.pop(name, None)
        if outcome.status is Status.SUCCESS:
            assert ran == 1
            assert plan.exit_code == 0
        elif stopped is None:
            wanted = plan.start_error.reason if plan.start_error else plan.reason
            assert outcome.reason == wanted, f"{name}/{number} ended {outcome}, planned {plan}"
        settled = outcome.status
        if settled is not Status.SUCCESS and stopped is not None:
            settled = Status.FAILED if stopped == Reason.TIMEOUT else Status.CANCELED
        retries_left = number <= self.specs[name].retry.max_retries
        stopped_run = self.blocked or self.canceled or self.timed_out or name in self.unwanted
        if settled is not Status.FAILED or not retries_left or stopped_run:
            self._finish(name, settled)
        # else it waits to be tried again, or its end is an event of its own

    def _finish(self, name: str, status: Status) -> None:
        self.final[name] = status
        if status in (Status.FAILED, Status.CANCELED) and not self.specs[name].allow_failure:
            self.blocked = True

    def _waits_for(self, spec: JobSpec) -> list[str]:
        if spec.needs is not None:
            return [need.job for need in spec.needs]
        stages = self.told.spec.stages
        mine = stages.index(spec.stage)
        return [job.name for job in self.told.spec.jobs if stages.index(job.stage) < mine]

    def check_end(self, run: Run, disk: Disk) -> None:
        """Check what the whole history came to."""
        assert self.over
        assert run.is_over
        again = replay(self.run_id, self.told.spec, tuple(disk.events))
        assert summary(again) == summary(run), "what is on disk is not what the engine had in mind"
        statuses = {job.status for job in run.jobs}
        assert statuses <= FINAL
        blocking = [job for job in run.jobs if job.status is Status.FAILED and not job.spec.allow_failure]
        if run.status is Status.SUCCESS:
            assert statuses <= {Status.SUCCESS, Status.SKIPPED}
        if blocking and not self.canceled:
            assert run.status is Status.FAILED
        if run.status is Status.CANCELED:
            assert Status.CANCELED in statuses
        if run.reason == Reason.ALLOWED_FAILURE:
            assert not blocking
            assert Status.FAILED in statuses
        for job in run.jobs:
            assert job.status is Status.SUCCESS or job.reason, f"{job.spec.name} is {job.status} without a reason"
            for attempt in job.attempts:
                key = AttemptKey(self.run_id, job.spec.name, attempt.number)
                ran = self.world.runs_of(key)
                if attempt.outcome is not None and attempt.outcome.exit_code is not None:
                    assert ran == 1, f"{key.text} has an exit code and ran {ran} times"
                    if attempt.stop_reason is None:
                        planned = plan_of(self.told.seed, key).output
                        assert disk.logs.get(key.text, b"") == planned, f"the log of {key.text} is not what it wrote"


def summary(run: Run) -> list[tuple[str, str, str | None, int | None, int]]:
    """Return what a report says of the run but for times."""
    rows = [(job.spec.name, str(job.status), job.reason, job.exit_code, len(job.attempts)) for job in run.jobs]
    return [*rows, (run.spec.name, str(run.status), run.reason, None, 0)]
