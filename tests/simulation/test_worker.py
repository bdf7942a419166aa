"""A worker in virtual time: what it does at once, what it does not do, and what it does when the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace

import pytest

from stretto.core import events as ev
from stretto.core.spec import AttemptKey, JobSpec, RunSpec
from stretto.core.states import FINAL, Reason, Status
from stretto.drivers.fake import FakePlan, FakeWorld
from stretto.engine.worker import DRAIN_S, POLL_S, RELEASE_TIMEOUT_S
from tests.simulation.cluster import BAD, LEASE_S, Cluster, Kept, MortalShelf, Steady
from tests.simulation.history import Checker, scenario
from tests.simulation.loop import run_virtually
from tests.simulation.ports import Life

HOUR_S = 3600.0


class Blind(Checker):
    """A checker that looks at nothing: that of histories knows other plans than these jobs have."""

    def see(self, events: Sequence[ev.Event]) -> None:
        """Look away."""


def play(story: Callable[[Cluster], Coroutine[None, None, None]], *, job_s: float = 0.0) -> None:
    """Play a story with a server without runs whose jobs last `job_s`."""

    async def main() -> None:
        cluster = Cluster(0, calm=True)
        cluster.world = FakeWorld(lambda key, job: FakePlan(job_s))
        await story(cluster)
        for process in list(cluster.processes):
            await cluster.drain(process)

    run_virtually(main())


def accept(cluster: Cluster, number: int = 1, *, jobs: int = 1, kind: str = "good") -> Kept:
    """Accept a run of so many jobs."""
    spec = RunSpec("pipeline", "p", ("all",), tuple(JobSpec(f"j{i}", "all", "fake") for i in range(jobs)))
    told = replace(scenario(1), spec=spec, deaths=(1,), zombies=False, cancel_at_s=None, kept=())
    run = cluster.add(number, told, kind)
    run.checker = Blind(told, cluster.world)
    return run


def times(run: Kept) -> dict[str, float]:
    """Return when each kind of event happened first, in virtual seconds."""
    begin = run.disk.events[0].at
    return {type(event).__name__: (event.at - begin).total_seconds() for event in reversed(run.disk.events)}


async def until_over(run: Kept, limit_s: float = HOUR_S) -> None:
    """Let time pass until the run is over."""
    async with asyncio.timeout(limit_s):
        while run.status not in FINAL:  # noqa: ASYNC110 - in virtual time
            await asyncio.sleep(0.5)


def test_idle_worker_starts_the_first_job_at_once() -> None:
    """Between a submission and the start of its job no time passes: nothing on that way waits for a poll."""

    async def story(cluster: Cluster) -> None:
        cluster.start()
        await asyncio.sleep(1003.7)
        run = accept(cluster)
        await until_over(run)
        assert times(run)["AttemptStarting"] == pytest.approx(1003.7, abs=0.001)

    play(story)


def test_idle_worker_hardly_asks() -> None:
    """With nothing to do a worker asks the store a few times in each poll, for an hour, and holds nothing."""

    async def story(cluster: Cluster) -> None:
        process = cluster.start()
        steps = 0
        step = process.life.step

        async def count() -> None:
            nonlocal steps
            steps += 1
            await step()

        process.life.step = count  # type: ignore[method-assign]
        await asyncio.sleep(HOUR_S)
        assert 0 < steps < 6 * HOUR_S / POLL_S
        assert process.worker.held == 0

    play(story)


def test_lost_notification_costs_a_poll_at_most() -> None:
    """A run of which nobody is told is found by the poll."""

    async def story(cluster: Cluster) -> None:
        cluster.start()
        await asyncio.sleep(100.0)
        cluster.shelf.changed = asyncio.Event()  # not the one that the worker waits for
        run = accept(cluster)
        await until_over(run)
        assert times(run)["AttemptStarting"] <= 100.0 + POLL_S

    play(story)


def test_jobs_go_on_while_the_store_is_away() -> None:
    """The store is away for a minute: the lease is lost, the run let go, the job runs on, once, and is taken up again."""

    async def story(cluster: Cluster) -> None:
        process = cluster.start()
        run = accept(cluster)
        await asyncio.sleep(5.0)
        assert process.worker.held == 1
        first = run.owner
        cluster.shelf.is_away = True
        await asyncio.sleep(LEASE_S + 6.0)
        assert process.worker.held == 0
        await asyncio.sleep(60.0 - LEASE_S - 6.0)
        cluster.shelf.is_away = False
        await asyncio.sleep(6.0)
        assert (process.worker.held, run.owner != first) == (1, True)
        await until_over(run)
        assert (run.status, len(run.disk.events)) == (Status.SUCCESS, 6)
        assert cluster.world.runs_of(AttemptKey(run.id, "j0", 1)) == 1

    play(story, job_s=200.0)


def test_short_absence_of_the_store_costs_no_claim() -> None:
    """The store is away for less than the lease: what came meanwhile is put on record under the same claim."""

    async def story(cluster: Cluster) -> None:
        cluster.start()
        run = accept(cluster)
        await asyncio.sleep(5.0)
        fence, owner = run.disk.fence, run.owner
        cluster.shelf.is_away = True
        await asyncio.sleep(LEASE_S / 2)
        cluster.shelf.is_away = False
        await until_over(run)
        assert (run.disk.fence, run.owner) == (fence + 1, owner)  # one more by its release
        assert cluster.world.runs_of(AttemptKey(run.id, "j0", 1)) == 1

    play(story, job_s=8.0)


def test_dead_worker_is_replaced_within_its_lease() -> None:
    """A worker dies without a word: another adopts its job when the lease has run out, and the job runs once."""

    async def story(cluster: Cluster) -> None:
        victim = cluster.start()
        run = accept(cluster)
        await asyncio.sleep(7.0)
        other = cluster.start()
        cluster._kill(victim.life)
        await asyncio.sleep(LEASE_S + POLL_S + 1.0)
        assert other.worker.held == 1
        await until_over(run)
        assert run.status is Status.SUCCESS
        assert cluster.world.runs_of(AttemptKey(run.id, "j0", 1)) == 1

    play(story, job_s=100.0)


def test_drain_hands_over_at_once() -> None:
    """A drain takes no time to speak of, and the other worker holds the runs right after it, jobs still running."""

    async def story(cluster: Cluster) -> None:
        process = cluster.start()
        runs = [accept(cluster, number) for number in (1, 2, 3)]
        await asyncio.sleep(5.0)
        assert process.worker.held == 3
        other = cluster.start()
        began = asyncio.get_running_loop().time()
        await cluster.drain(process)
        assert asyncio.get_running_loop().time() - began < 1.0
        await asyncio.sleep(0.5)
        assert other.worker.held == 3
        for run in runs:
            await until_over(run)
            assert [type(event) for event in run.disk.events].count(ev.AttemptStarting) == 1

    play(story, job_s=60.0)


def test_drain_ends_though_the_store_is_away() -> None:
    """A drain while the store is away lets go of what it can't hand over, within seconds; another takes it up later."""

    async def story(cluster: Cluster) -> None:
        process = cluster.start()
        run = accept(cluster)
        await asyncio.sleep(5.0)
        cluster.shelf.is_away = True
        cluster.processes.remove(process)
        began = asyncio.get_running_loop().time()
        await process.worker.drain()
        await process.task
        assert asyncio.get_running_loop().time() - began < DRAIN_S + RELEASE_TIMEOUT_S
        cluster.shelf.is_away = False
        cluster.start()
        await until_over(run)
        assert cluster.world.runs_of(AttemptKey(run.id, "j0", 1)) == 1

    play(story, job_s=60.0)


def test_take_waits_for_room() -> None:
    """A worker that is full takes the run that a queue tells of as soon as another one is over."""

    async def story(cluster: Cluster) -> None:
        process = cluster.start()
        process.worker._terms = replace(process.worker._terms, runs=1, undefined=False)
        first = accept(cluster, 1)
        first.is_defined = True
        await asyncio.sleep(5.0)
        second = accept(cluster, 2)
        taking = asyncio.create_task(process.worker.take(second.id))
        await asyncio.sleep(20.0)
        assert (first.status, second.owner, taking.done()) == (Status.RUNNING, None, False)
        await until_over(first)
        await taking
        assert second.is_defined
        await until_over(second)

    play(story, job_s=60.0)


def test_bad_definition_ends_the_run_and_the_worker_goes_on() -> None:
    """What can't be compiled ends with its faults as message; what comes after it is conducted."""

    async def story(cluster: Cluster) -> None:
        cluster.start()
        bad, good = accept(cluster, 1, kind=BAD), accept(cluster, 2)
        await until_over(bad)
        await until_over(good)
        end = bad.disk.events[-1]
        assert isinstance(end, ev.RunEnded)
        assert (end.reason, end.message) == (Reason.BAD_DEFINITION, "it has faults")
        assert good.status is Status.SUCCESS

    play(story)


def test_cancel_reaches_a_run_that_a_full_worker_does_not_hold() -> None:
    """A worker that holds as many runs as it may ends another one that is to be canceled, and holds no more than before."""

    async def story(cluster: Cluster) -> None:
        process = cluster.start()
        process.worker._terms = replace(process.worker._terms, runs=1)
        accept(cluster, 1)
        await asyncio.sleep(5.0)
        waiting = accept(cluster, 2)
        await asyncio.sleep(5.0)
        assert waiting.owner is None
        await MortalShelf(cluster.shelf, Life(Steady(), None)).ask(waiting.id, "cancel", {"job": None, "by": "ada"})
        await until_over(waiting, 10.0)
        assert waiting.status is Status.CANCELED
        assert process.worker.held == 1

    play(story, job_s=60.0)
