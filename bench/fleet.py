"""Many runs and two conductors, whose jobs take no time: what Stretto and its database cost, against a commit per transition."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psycopg

from bench.cluster import database, module, result
from bench.row import Row
from stretto.core.ports import NewRun
from stretto.core.spec import JobSpec, RunSpec
from stretto.store.postgres.store import PostgresStore

RUNS, JOBS, CONDUCTORS = 1_000, 10, 2
TRANSITIONS_A_JOB = 2
"""A job is started and ends: an engine without grouping commits at least twice."""
FLOOR_ROWS = 4_000
"""From which the floor is extrapolated."""
SLOTS = 100
"""Jobs at once on a conductor: enough that none waits for a slot for long."""
ROUNDS = 3
LOOK_S = 0.02
TIMEOUT_S = 300.0


def row(*, sync_us: int = 0, told: str = "") -> Row:
    """Take turns in one database, the conductors anew each time."""
    transitions = RUNS * JOBS * TRANSITIONS_A_JOB
    floors, measured = [], []
    with tempfile.TemporaryDirectory() as name, database(sync_us=sync_us) as url:
        for _ in range(ROUNDS):
            floors.append(_insert(url) * transitions / FLOOR_ROWS)
            asyncio.run(_submit(url))
            measured.append(_conduct(url, Path(name)))
    return Row(
        f"{RUNS:,} runs of {JOBS} `fake` jobs, {CONDUCTORS} conductors{told}",
        f"one committed row per transition (start, end) from {CONDUCTORS} processes",
        median(floors),
        median(measured),
        times=0.25,
    )


def _insert(url: str) -> float:
    """Return the seconds that the floor's rows take, half of them in each of two processes."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(module("insert", url, "event", 1, FLOOR_ROWS // CONDUCTORS)) for _ in range(CONDUCTORS)
        ]
        for process in processes:
            process.read_line()
        return max(float(took) for took in result(*processes))


async def _submit(url: str) -> None:
    """Store the runs."""
    jobs = tuple(JobSpec(f"job-{i}", "build", "fake") for i in range(JOBS))
    spec = RunSpec("pipeline", "bench", ("build",), jobs)
    store = await PostgresStore.open(url)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(RUNS):
                group.create_task(store.create_run(NewRun(spec, datetime.now(UTC))))
    finally:
        await store.close()


def _conduct(url: str, home: Path) -> float:
    """Return the seconds from the conductors' begin to the end of the last run; RuntimeError unless all succeed."""
    variables = {"STRETTO_HOME": str(home), "STRETTO_DATABASE": url, "STRETTO_JOBS": str(SLOTS)}
    with ExitStack() as stack:
        processes = [stack.enter_context(module("conductor", **variables)) for _ in range(CONDUCTORS)]
        for process in processes:
            process.read_line()
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        began = time.perf_counter()
        for process in processes:
            process.go()
        while connection.execute("SELECT 1 FROM run WHERE ended_at IS NULL LIMIT 1").fetchone():
            if time.perf_counter() - began > TIMEOUT_S:
                raise RuntimeError(f"the runs were not over after {TIMEOUT_S:g} s")
            time.sleep(LOOK_S)
        took = time.perf_counter() - began
        if found := connection.execute("SELECT number, status FROM run WHERE status <> 'success' LIMIT 1").fetchone():
            raise RuntimeError(f"run {found[0]} ended {found[1]}")
    return took
