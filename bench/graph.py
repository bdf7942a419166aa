"""The engine itself: a wide graph and a chain of `fake` jobs, durable in SQLite, against bare commits of the same file system.

The floor is a table in a database with the same settings (WAL, `synchronous=FULL`) to which one row is written per commit.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench.row import Row
from stretto.core.ports import NewRun
from stretto.core.spec import JobSpec, Need, RunSpec
from stretto.core.states import Status
from stretto.drivers.fake import FakeDriver, FakeWorld
from stretto.engine.attempt import Places
from stretto.engine.conductor import Conductor, Parts
from stretto.engine.leases import hold
from stretto.engine.recovery import replay
from stretto.engine.slots import Slots
from stretto.store.artifacts import FileArtifacts
from stretto.store.logs import FileLogs
from stretto.store.sqlite import SqliteStore
from stretto.wiring import SystemClock

WIDE_JOBS, WIDTH, CHAIN_JOBS = 10_000, 100, 1_000
TRANSITIONS_A_JOB = 2
"""A job is started and ends: an engine without grouping commits at least twice."""
FLOOR_COMMITS = 2_000
"""Commits from which the floor of the wide graph is extrapolated: 20,000 would take half a minute."""
ROUNDS = 5
MEMORY_LIMIT_MB = 200.0
SLOW_WRITES_A_S = 4_000
"""Makes a commit cost about a millisecond, as on a disk that really waits for its medium: some acknowledge in 60 microseconds."""


class NoTrees:
    """For runs without a source."""

    async def checkout(self, run: object) -> Path | None:
        """There is none."""
        return None


def wide() -> RunSpec:
    """Return 100 stages of 100 jobs."""
    stages = tuple(f"s{i}" for i in range(WIDE_JOBS // WIDTH))
    jobs = tuple(JobSpec(f"j{i}", stages[i // WIDTH], "fake") for i in range(WIDE_JOBS))
    return RunSpec("pipeline", "wide", stages, jobs)


def chain() -> RunSpec:
    """Return jobs each of which needs the one before."""
    needs = [(Need(f"j{i - 1}"),) if i else () for i in range(CHAIN_JOBS)]
    return RunSpec(
        "pipeline", "chain", ("s",), tuple(JobSpec(f"j{i}", "s", "fake", needs=n) for i, n in enumerate(needs))
    )


async def conduct(spec: RunSpec, home: Path) -> float:
    """Run the spec on the real store and return the seconds from claim to end."""
    clock = SystemClock()
    store = await SqliteStore.open(home / "stretto.db")
    row, _ = await store.create_run(NewRun(spec, datetime.now(UTC)))
    begun = time.perf_counter()
    async with hold(store, "bench") as lease:
        claim = await store.claim(row.id, "bench")
        stored = await store.load(row.id)
        parts = Parts(
            store=store,
            drivers={"fake": FakeDriver(FakeWorld(), clock, prepares=False)},
            trees=NoTrees(),
            places=Places(FileLogs(home / "logs"), FileArtifacts(home / "artifacts"), clock, 0, 10.0),
            slots=Slots(WIDTH),
            attempts=home / "attempts",
            owns=lease.held,
        )
        run = await Conductor(parts, claim, replay(row.id, stored.spec, stored.events), number=row.number).conduct()
        seconds = time.perf_counter() - begun
        await store.release(claim)
    await store.close()
    if run.status is not Status.SUCCESS:
        raise RuntimeError(f"the run ended {run.status}")
    return seconds


def bare_commits(count: int, home: Path) -> float:
    """Commit `count` rows one by one and return the seconds."""
    connection = sqlite3.connect(home / "floor.db", isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("create table if not exists event (seq integer primary key, kind text, body text)")
    begun = time.perf_counter()
    for i in range(count):
        connection.execute("begin immediate")
        connection.execute("insert into event (kind, body) values ('attempt_ended', ?)", (f'{{"job": "j{i}"}}',))
        connection.execute("commit")
    seconds = time.perf_counter() - begun
    connection.close()
    return seconds


def measure(spec: RunSpec, commits: int, counted: int) -> tuple[float, float]:
    """Return the medians, in seconds, of `counted` bare commits (from a measure of `commits`) and of the run, taken in turn."""
    floors, measured = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as home:
            floors.append(bare_commits(commits, Path(home)) * counted / commits)
            measured.append(asyncio.run(conduct(spec, Path(home))))
    return median(floors), median(measured)


def peak_memory_mb() -> float:
    """Return the peak resident memory of a process that runs the wide graph once, in MB."""
    code = (
        "import asyncio, pathlib, resource, sys; from bench import graph; "
        "asyncio.run(graph.conduct(graph.wide(), pathlib.Path(sys.argv[1]))); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run([sys.executable, "-c", code, home], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024


@contextmanager
def slow_disk(place: Path) -> Iterator[Path | None]:
    """Give a control group whose processes write at most `SLOW_WRITES_A_S` times a second to the disk of `place`, or None."""
    group = Path("/sys/fs/cgroup/blkio") / f"stretto-bench-{os.getpid()}"
    device = place.stat().st_dev
    whole = f"{os.major(device)}:{os.minor(device) & ~15}"  # a limit is put on the disk, not on its partition
    try:
        group.mkdir()
    except OSError:
        yield None  # not root, or no such controller
        return
    try:
        for name in {whole, f"{os.major(device)}:{os.minor(device)}"}:
            try:
                (group / "blkio.throttle.write_iops_device").write_text(f"{name} {SLOW_WRITES_A_S}")
                break
            except OSError:
                continue
        else:
            yield None
            return
        yield group
    finally:
        group.rmdir()


def measure_slowly(which: str, group: Path) -> tuple[float, float]:
    """Return what `measure` of the graph gives in a process of this control group."""
    code = f"import json; from bench import graph; print(json.dumps(graph.measure_named({which!r})))"
    done = subprocess.run(
        ["/bin/sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', group, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    floor, measured = json.loads(done.stdout)
    return floor, measured


def measure_named(which: str) -> tuple[float, float]:
    """Measure the graph of this name."""
    if which == "wide":
        return measure(wide(), FLOOR_COMMITS, WIDE_JOBS * TRANSITIONS_A_JOB)
    return measure(chain(), CHAIN_JOBS, CHAIN_JOBS)


def rows() -> list[Row]:
    """Measure both graphs, here and on a disk made slow, and the memory of the wide one."""
    per_transition, per_job = "one commit per transition (start, end)", "one commit per job"
    wide_title, chain_title = f"{WIDE_JOBS} jobs, {WIDTH} wide, `fake`", f"chain of {CHAIN_JOBS} `fake` jobs"
    found = [
        Row(wide_title, per_transition, *measure_named("wide"), times=0.1),
        Row("the same: peak memory", "the limit", MEMORY_LIMIT_MB, peak_memory_mb(), times=1.0, unit="MB"),
        Row(chain_title, per_job, *measure_named("chain"), times=1.25),
    ]
    with slow_disk(Path(tempfile.gettempdir())) as group:
        if group is not None:
            slow = f"on a disk held to {SLOW_WRITES_A_S} writes a second"
            found += [
                Row(f"{wide_title}, {slow}", per_transition, *measure_slowly("wide", group), times=0.1),
                Row(f"{chain_title}, {slow}", per_job, *measure_slowly("chain", group), times=1.25),
            ]
    return found
