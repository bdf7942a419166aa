"""Conductors in processes of their own over one home: killed, drained and started again, they do everything once."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from stretto.core.ports import RunFilter
from stretto.core.states import FINAL, Status
from stretto.service import Service
from stretto.settings import load
from stretto.waist import RunRequest
from stretto.wiring import open_service
from tests.support.background import until
from tests.support.cli import environment
from tests.support.repository import make_repository

ROOT = Path(__file__).parents[2]
RUNS = 60
SEED = int(os.environ.get("STRETTO_SIM_SEED", "3"))
DISTURB_EVERY_S = 0.7
DRAIN_S = 10.0
"""A drain takes far less; a machine under load may not."""
ENDS_WITHIN_S = 240.0

PIPELINE = """
name: effects
stages: [one, two]
jobs:
  first:
    stage: one
    script:
      - echo $STRETTO_ATTEMPT >> $EFFECTS/$STRETTO_RUN_NUMBER.first
      - sleep 0.4; mkdir out; echo $STRETTO_RUN_NUMBER > out/number
    artifacts: {paths: [out]}
  beside:
    stage: one
    script: [echo $STRETTO_ATTEMPT >> $EFFECTS/$STRETTO_RUN_NUMBER.beside, sleep 0.2]
  flaky:
    stage: one
    retry: 1
    script: [echo $STRETTO_ATTEMPT >> $EFFECTS/$STRETTO_RUN_NUMBER.flaky, test $STRETTO_ATTEMPT -gt 1]
  last:
    stage: two
    script: [echo $STRETTO_ATTEMPT >> $EFFECTS/$STRETTO_RUN_NUMBER.last, test $(cat out/number) = $STRETTO_RUN_NUMBER]
"""
EFFECTS = {"first": ["1"], "beside": ["1"], "flaky": ["1", "2"], "last": ["1"]}


class Conductors:
    """Processes that conduct the runs of one home."""

    def __init__(self, home: Path) -> None:
        self._begun: list[subprocess.Popen[str]] = []
        self._variables = {"STRETTO_DRIVER": "process", "STRETTO_JOBS": "2", "STRETTO_CONDUCTOR_RUNS": "20"}
        self._home = home
        self.errors = home.parent / "conductors.txt"

    def start(self) -> subprocess.Popen[str]:
        """Start one more, and return when it is about to claim runs."""
        with self.errors.open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.conductor"],
                cwd=ROOT,
                env=environment(self._home, self._variables),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._begun.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", self.errors.read_text()
        return process

    def end(self) -> None:
        """Kill those that are still there."""
        for process in self._begun:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=10)


@pytest.fixture
def conductors(home: Path) -> Iterator[Conductors]:
    """Conductors over the home; what is left of them is killed at the end."""
    begun = Conductors(home)
    yield begun
    begun.end()


def drain(process: subprocess.Popen[str]) -> float:
    """Drain a conductor; return how long that took."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=DRAIN_S) == 0
    return time.monotonic() - began


async def disturb(conductors: Conductors, service: Service) -> Counter[str]:
    """Kill and drain one of two conductors after the other, and start another in its place, until every run is over."""
    chance = random.Random(SEED)
    processes = [await asyncio.to_thread(conductors.start) for _ in range(2)]
    done: Counter[str] = Counter()
    deadline = time.monotonic() + ENDS_WITHIN_S
    while any(row.status not in FINAL for row in await service.list_runs(RunFilter(limit=RUNS))):
        assert time.monotonic() < deadline, f"runs are not over; {conductors.errors.read_text()[-4000:]}"
        await asyncio.sleep(chance.uniform(0.5, 1.5) * DISTURB_EVERY_S)
        victim = processes.pop(chance.randrange(2))
        if done["killed"] % 3 == 2 and done["drained"] < done["killed"]:
            await asyncio.to_thread(drain, victim)
            done["drained"] += 1
        else:
            victim.kill()
            await asyncio.to_thread(victim.wait)
            done["killed"] += 1
        processes.append(await asyncio.to_thread(conductors.start))
    for process in processes:
        await asyncio.to_thread(drain, process)
    return done


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_runs_survive_their_conductors(tmp_path: Path, home: Path, conductors: Conductors) -> None:
    """Two conductors, one of them killed or drained all the time: every run succeeds, every effect is there once, no more."""
    effects = tmp_path / "effects"
    effects.mkdir()
    repository = make_repository(tmp_path / "repository", {"pipeline.yml": PIPELINE})
    async with open_service(load(environment(home)), serves=True) as service:
        request = RunRequest(str(repository), variables={"EFFECTS": str(effects)}, driver="process")
        for i in range(RUNS):
            await service.accept(dataclasses.replace(request, by=f"user {i % 3}"))
        done = await disturb(conductors, service)
        rows = await service.list_runs(RunFilter(limit=RUNS))
        assert len(rows) == RUNS
        assert not [(row.number, row.reason, row.message) for row in rows if row.status is not Status.SUCCESS]
        assert await service.reap() == 0
    written = {file.name: file.read_text().split() for file in effects.iterdir()}
    assert written == {f"{row.number}.{job}": lines for row in rows for job, lines in EFFECTS.items()}
    assert done["killed"] >= 6, "the conductors were not disturbed"
    assert done["drained"] >= 2
    assert not list((home / "attempts").iterdir())


async def test_drained_conductor_leaves_its_jobs_to_the_next(
    tmp_path: Path, home: Path, conductors: Conductors
) -> None:
    """A drain ends within seconds and stops no job; another conductor adopts the job at once, and it runs once."""
    go, marks = tmp_path / "go", tmp_path / "marks"
    script = f"echo begun >> {marks}; until test -e {go}; do sleep 0.05; done; echo ended >> {marks}"
    repository = make_repository(
        tmp_path / "repository", {"pipeline.yml": f"name: long\njobs:\n  long: {{stage: test, script: '{script}'}}\n"}
    )
    async with open_service(load(environment(home)), serves=True) as service:
        ((row, _),) = await service.accept(RunRequest(str(repository), driver="process"))
        first = await asyncio.to_thread(conductors.start)
        await asyncio.to_thread(until, marks.exists, "job")
        assert await asyncio.to_thread(drain, first) < DRAIN_S / 2
        assert (await service.find_run(row.id)).status is Status.RUNNING
        second = await asyncio.to_thread(conductors.start)
        go.touch()
        began = time.monotonic()
        async with asyncio.timeout(DRAIN_S):
            events = [event async for _, event in service.watch(row.id)]
        assert time.monotonic() - began < DRAIN_S / 2, "not adopted at once"
        assert (await service.find_run(row.id)).status is Status.SUCCESS
        assert marks.read_text() == "begun\nended\n"
        assert [type(event).__name__ for event in events].count("AttemptStarting") == 1
        assert await asyncio.to_thread(drain, second) < DRAIN_S / 2


async def test_cancel_reaches_runs_that_are_held_and_that_nobody_holds(
    tmp_path: Path, home: Path, conductors: Conductors
) -> None:
    """A server's cancel is a request: carried out at once by the conductor of a run, and by any for a run without one."""
    marks = tmp_path / "marks"
    definition = f"name: long\njobs:\n  long: {{stage: test, script: 'echo begun >> {marks}; sleep 600'}}\n"
    repository = make_repository(tmp_path / "repository", {"pipeline.yml": definition})
    async with open_service(load(environment(home)), serves=True) as service:
        request = RunRequest(str(repository), driver="process")
        ((early, _),) = await service.accept(request)
        assert (await service.cancel(early.id, by="ada")).status is Status.PENDING
        process = await asyncio.to_thread(conductors.start)
        ((held, _),) = await service.accept(request)
        await asyncio.to_thread(until, marks.exists, "job")
        await service.cancel(held.id)
        for row in (early, held):
            async with asyncio.timeout(DRAIN_S):
                events = [event async for _, event in service.watch(row.id)]
            ended = await service.find_run(row.id)
            assert (ended.status, ended.reason) == (Status.CANCELED, "cancel_requested")
            assert type(events[-1]).__name__ == "RunEnded"
        assert (await service.report(early.id)).stages == ()
        assert marks.read_text() == "begun\n"
        await asyncio.to_thread(drain, process)
