"""A server in virtual time: several workers over one store, killed, drained and started again, while the store comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from stretto.core import events as ev
from stretto.core.errors import FenceLostError, InputError, NotFoundError, RunBusyError, StoreError
from stretto.core.ports import Claim, Request, RunRow, StoredRun, Wanted
from stretto.core.run import Changes
from stretto.core.spec import AttemptKey, RunSpec
from stretto.core.states import FINAL, Reason, Status
from stretto.drivers.fake import FakeDriver, FakeWorld
from stretto.engine.attempt import Places
from stretto.engine.recovery import reap, replay
from stretto.engine.slots import Slots
from stretto.engine.tenure import MOST_TRIES, Means
from stretto.engine.worker import Terms, Worker
from tests.simulation.history import ATTEMPTS, Checker, Scenario, plan_of, scenario
from tests.simulation.loop import EPOCH, VirtualClock, run_virtually
from tests.simulation.ports import Disk, Life, MortalDriver, MortalLogs, NoArtifacts, NoTrees

LEASE_S = 15.0
QUIET_AFTER_S = 400.0
"""From then on nothing goes wrong any more."""
OVER_AFTER_S = 3600.0
"""By then every run is over."""
GOOD, BAD, POISON = "good", "bad", "poison"
UNKNOWN = RunSpec("pipeline", "undefined", (), ())


@dataclass(slots=True)
class Kept:
    """One run as it is on disk, with its checker; `kind` says what compiling it comes to."""

    id: str
    number: int
    told: Scenario
    kind: str
    disk: Disk
    checker: Checker
    is_defined: bool
    owner: str | None = None
    held: bool = False

    @property
    def spec(self) -> RunSpec:
        """What is on record of it."""
        return self.told.spec if self.is_defined else UNKNOWN

    @property
    def status(self) -> Status:
        """As the row has it."""
        return replay(self.id, self.spec, tuple(self.disk.events)).status


@dataclass(slots=True)
class Shelf:
    """What all processes share: runs, leases, and whether the store answers just now."""

    runs: dict[str, Kept] = field(default_factory=dict)
    leases: dict[str, float] = field(default_factory=dict)
    logs: dict[str, bytes] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0
    is_away: bool = False

    def touch(self) -> None:
        """Wake all who wait for a change."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def is_free(self, run: Kept) -> bool:
        """Say whether the run may be claimed."""
        now = asyncio.get_running_loop().time()
        return run.status not in FINAL and (not run.held or self.leases.get(run.owner or "", 0.0) <= now)


class MortalShelf:
    """The part of `core.ports.Store` that a worker uses, over the shelf, until its process dies."""

    def __init__(self, shelf: Shelf, life: Life) -> None:
        self.shelf = shelf
        self.life = life
        self.tables = self

    async def _reach(self) -> None:
        await self.life.step()
        if self.shelf.is_away:
            raise StoreError("the store is away")

    async def _answer(self) -> None:
        """Come back after something was done; where the store goes away right then, nobody knows that it was."""
        await self._reach()

    def _owned(self, claim: Claim) -> Kept:
        run = self.shelf.runs[claim.run_id]
        if run.disk.fence != claim.fence or not run.held:
            raise FenceLostError("taken over")
        return run

    def _claim(self, run: Kept, owner: str) -> Claim:
        run.disk.fence += 1
        run.owner, run.held = owner, True
        return Claim(run.id, owner, run.disk.fence)

    async def claim_next(self, owner: str, wanted: Wanted) -> list[Claim]:
        await self._reach()
        free = [run for run in self.shelf.runs.values() if self.shelf.is_free(run)]
        free = [run for run in free if wanted.undefined or run.is_defined]
        claims = [self._claim(run, owner) for run in free[: wanted.limit]]
        await self._answer()
        return claims

    async def claim(self, run_id: str, owner: str, place: str = "") -> Claim:
        await self._reach()
        if run_id not in self.shelf.runs:
            raise NotFoundError(run_id)
        if not self.shelf.is_free(self.shelf.runs[run_id]):
            raise RunBusyError(run_id)
        return self._claim(self.shelf.runs[run_id], owner)

    async def release(self, claim: Claim) -> None:
        await self._reach()
        run = self._owned(claim)
        run.held, run.disk.fence = False, run.disk.fence + 1
        self.shelf.touch()
        await self._answer()

    async def keep_lease(self, owner: str, lease_s: float, place: str = "") -> None:
        await self._reach()
        self.shelf.leases[owner] = asyncio.get_running_loop().time() + lease_s

    async def load(self, run_id: str) -> StoredRun:
        await self._reach()
        run = self.shelf.runs[run_id]
        ended = EPOCH if run.status in FINAL else None
        row = RunRow(
            run.id, run.number, "pipeline", "p", run.status, None, None, None, None, None, None, EPOCH, None, ended
        )
        return StoredRun(row, run.spec, tuple(run.disk.events), None if run.is_defined else {"run": run.id})

    async def define(self, claim: Claim, spec: RunSpec) -> RunRow:
        await self._reach()
        run = self._owned(claim)
        assert not run.is_defined, "defined twice"
        run.is_defined = True
        await self._answer()
        return (await self.load(run.id)).row

    async def commit(
        self, claim: Claim, events: Sequence[ev.Event], changes: Changes, settled: Iterable[int] = ()
    ) -> None:
        await self._reach()
        run = self._owned(claim)
        run.disk.events.extend(events)
        for number in settled:
            run.disk.requests.pop(number, None)
        run.checker.see(events)
        await self._answer()

    async def ask(self, run_id: str, kind: str, body: Mapping[str, Any]) -> None:
        await self._reach()
        self.shelf.asked += 1
        run = self.shelf.runs[run_id]
        run.disk.requests[self.shelf.asked] = Request(self.shelf.asked, run_id, kind, body)
        self.shelf.touch()

    async def read_requests(self, run_id: str) -> list[Request]:
        await self._reach()
        return list(self.shelf.runs[run_id].disk.requests.values())

    async def read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Answer the one query that a worker has: of which runs something is asked."""
        await self._reach()
        kind, _ = values
        return [
            (run.id, run.held)
            for run in self.shelf.runs.values()
            if run.status not in FINAL and any(request.kind == kind for request in run.disk.requests.values())
        ]

    async def wait_for_change(self, timeout_s: float) -> bool:
        await self._reach()
        try:
            async with asyncio.timeout(timeout_s):
                await self.shelf.changed.wait()
        except TimeoutError:
            return False
        if self.life.random.random() < 0.2:  # a notification that got lost
            await asyncio.sleep(timeout_s)
        return True


class Steady(Random):
    """Chance that never lets a process tarry."""

    def random(self) -> float:
        return 0.99


@dataclass(slots=True)
class Process:
    """A worker's process."""

    worker: Worker
    life: Life
    task: asyncio.Task[None]


class Cluster:
    """A history of several workers, made of a seed."""

    def __init__(self, seed: int, *, calm: bool = False) -> None:
        """A calm one has no runs, and its processes never tarry."""
        self.random = Random(seed)
        self.calm = calm
        self.shelf = Shelf()
        self.world = FakeWorld(lambda key, job: plan_of(self.shelf.runs[key.run_id].told.seed, key))
        self.processes: list[Process] = []
        self.started = self.killed = self.drained = 0
        for number in range(1, 1 if calm else self.random.randint(2, 7)):
            self._add_run(number, seed * 100 + number)

    def _add_run(self, number: int, seed: int) -> None:
        told = replace(scenario(seed), deaths=(1,), zombies=False)
        kind = self.random.choices((GOOD, BAD, POISON), (8, 1, 1))[0]
        is_defined = kind == GOOD and self.random.random() < 0.5
        if not is_defined:
            told = replace(told, kept=())
        self.add(number, told, kind, is_defined=is_defined)

    def add(self, number: int, told: Scenario, kind: str = GOOD, *, is_defined: bool = False) -> Kept:
        """Accept a run."""
        run_id = f"01cluster{number:017}"
        checker = Checker(told, self.world, run_id)
        disk = Disk(events=told.first_events(), logs=self.shelf.logs)
        checker.see(disk.events)
        run = self.shelf.runs[run_id] = Kept(run_id, number, told, kind, disk, checker, is_defined)
        self.shelf.touch()
        return run

    async def live(self) -> None:
        """Live through it and check what it came to."""
        for _ in range(self.random.randint(1, 3)):
            self.start()
        asking = [asyncio.create_task(self._ask(run)) for run in self.shelf.runs.values()]
        trouble = asyncio.create_task(self._trouble())
        while any(run.status not in FINAL for run in self.shelf.runs.values()):
            await asyncio.sleep(1.0)
            assert asyncio.get_running_loop().time() < OVER_AFTER_S, "runs that do not end"
            if not trouble.done():
                continue
            trouble.result()
            if not self.processes:
                self.start()
        for task in (trouble, *asking):
            task.cancel()
        self.shelf.is_away = False
        for process in list(self.processes):
            await self.drain(process)
        await self._check()

    def start(self) -> Process:
        """Start one more worker."""
        self.started += 1
        life = Life(Steady() if self.calm else Random(self.random.random()), None)
        clock = VirtualClock()
        driver = MortalDriver(FakeDriver(self.world, clock), life)
        disk = Disk(logs=self.shelf.logs)

        async def compile_run(row: RunRow, asked: Mapping[str, Any]) -> RunSpec:
            return await self._compile(life, self.shelf.runs[asked["run"]])

        means = Means(
            store=MortalShelf(self.shelf, life),  # type: ignore[arg-type]  # the part that a worker uses
            driver=lambda name: driver,
            trees=NoTrees(),
            places=Places(
                logs=MortalLogs(disk, life),  # type: ignore[arg-type]
                artifacts=NoArtifacts(),  # type: ignore[arg-type]
                clock=clock,
                artifacts_limit_bytes=0,
                grace_s=3.0,
            ),
            compile=compile_run,
            attempts=ATTEMPTS,
            prepare_ahead=2,
            place="here",
        )
        terms = Terms(place="here", runs=10 if self.calm else self.random.choice((1, 2, 10)), lease_s=LEASE_S)
        slots = Slots(100 if self.calm else self.random.choice((1, 3, 100)))
        worker = Worker(means, slots, terms, owner=f"worker {self.started}", reap=lambda: reap(driver, self._is_over))
        process = Process(worker, life, asyncio.create_task(worker.run()))
        self.processes.append(process)
        return process

    async def _compile(self, life: Life, run: Kept) -> RunSpec:
        await life.step()
        if run.kind == BAD:
            raise InputError("it has faults")
        if run.kind == POISON:
            if self.random.random() < 0.5:
                raise ZeroDivisionError("a bug")
            self._kill(life)
            await life.step()
        return run.told.spec

    async def _is_over(self, run_id: str) -> bool:
        return self.shelf.runs[run_id].status in FINAL

    async def _trouble(self) -> None:
        """Kill, drain and start processes and take the store away, at random, for a while."""
        clock = asyncio.get_running_loop()
        while clock.time() < QUIET_AFTER_S:
            await asyncio.sleep(self.random.choice((0.01, 0.3, 2.0, 20.0)))
            match self.random.choice(("start", "kill", "drain", "away")):
                case "start" if len(self.processes) < 3:
                    self.start()
                case "kill" if self.processes:
                    self._kill(self.random.choice(self.processes).life)
                case "drain" if self.processes:
                    await self.drain(self.random.choice(self.processes))
                case "away" if self.random.random() < 0.3:
                    self.shelf.is_away = True
                    await asyncio.sleep(self.random.choice((0.1, 5.0, 60.0)))
                    self.shelf.is_away = False

    def _kill(self, life: Life) -> None:
        """End a process without a word; that it is gone shows when its lease runs out."""
        life.dead.set()
        for process in self.processes:
            if process.life is life:
                self.processes.remove(process)
                process.task.cancel()
                self.killed += 1
                return

    async def drain(self, process: Process) -> None:
        """Drain a worker, and check that it keeps nothing and takes no longer than it may."""
        began = asyncio.get_running_loop().time()
        self.processes.remove(process)
        await process.worker.drain()
        self.drained += 1
        await process.task
        assert asyncio.get_running_loop().time() - began < 60, "a drain takes seconds"
        assert process.worker.held == 0

    async def _ask(self, run: Kept) -> None:
        if run.told.cancel_at_s is not None:
            await asyncio.sleep(run.told.cancel_at_s)
            body = {"job": run.told.cancel_job, "by": "simulation"}
            await MortalShelf(self.shelf, Life(Random(1), None)).ask(run.id, "cancel", body)

    async def _check(self) -> None:
        for run in self.shelf.runs.values():
            end = replay(run.id, run.spec, tuple(run.disk.events))
            if run.is_defined:
                run.checker.check_end(end, run.disk)
            else:
                wanted = {Reason.BAD_DEFINITION if run.kind == BAD else Reason.ENGINE_FAULT, Reason.CANCEL_REQUESTED}
                assert end.reason in wanted, f"run {run.number}, {run.kind}: {end.reason}"
                innocent = run.kind == GOOD and end.reason == Reason.ENGINE_FAULT
                assert not innocent or self.killed >= MOST_TRIES, "no conductor died over it so often"
        await reap(FakeDriver(self.world, VirtualClock()), self._is_over)
        assert not self.world.keys, f"left behind: {self.world.keys}"
        keys = [AttemptKey.parse(text) for text in self.world.runs]
        assert all(self.world.runs_of(key) <= 1 for key in keys), "a script ran twice"


def live_cluster(seed: int) -> Cluster:
    """Live the history of this seed through; AssertionError names what does not hold."""
    cluster: list[Cluster] = []

    async def main() -> None:
        cluster.append(Cluster(seed))
        await cluster[0].live()

    run_virtually(main())
    return cluster[0]
