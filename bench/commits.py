"""What the SQLite store costs beyond bare SQLite: a chain of jobs, and a wide graph, each against a floor of the same run.

    uv run python -m bench.commits [--directory DIR] [--rounds N]

The floor is a plain loop on the same disk with the same settings: one transaction per transition, an event row and a job row
each. The store does the same through `commit` with live runs, all rows, fences and events; only engine and drivers are missing.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from stretto.core import events as ev
from stretto.core.ports import Claim, NewRun
from stretto.core.run import Run
from stretto.core.spec import JobSpec, RunSpec
from stretto.core.states import Status
from stretto.store.sqlite import SqliteStore

CHAIN = 1_000
WIDE = 10_000
WIDTH = 100


def bare(path: Path, commits: int) -> float:
    """Return the seconds that `commits` transactions of an event row and a job row take."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE event (run INT, seq INT, kind TEXT, at INT, body TEXT, PRIMARY KEY (run, seq))")
    connection.execute("CREATE TABLE job (run INT, job INT, status TEXT, at INT, PRIMARY KEY (run, job))")
    connection.executemany("INSERT INTO job VALUES (1, ?, 'pending', 0)", ((i,) for i in range(commits)))
    began = time.perf_counter()
    for i in range(commits):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO event VALUES (1, ?, 'attempt_ended', ?, ?)", (i, i, '{"job":"job-1"}'))
        connection.execute("UPDATE job SET status = 'success', at = ? WHERE run = 1 AND job = ?", (i, i))
        connection.execute("COMMIT")
    took = time.perf_counter() - began
    connection.close()
    return took


class Bench:
    """A live run on a store, driven without an engine."""

    def __init__(self, store: SqliteStore, run: Run, claim: Claim) -> None:
        self.store, self.run, self.claim = store, run, claim

    @classmethod
    async def begin(cls, path: Path, jobs: int) -> Bench:
        """Submit and start a run of `jobs` jobs that could all start at once."""
        spec = RunSpec("pipeline", "bench", ("all",), tuple(JobSpec(f"job-{i}", "all", "fake") for i in range(jobs)))
        store = await SqliteStore.open(path)
        row, _ = await store.create_run(NewRun(spec, datetime.now(UTC)))
        bench = cls(store, Run(row.id, spec), await store.claim(row.id, "bench"))
        bench.run.apply(ev.RunSubmitted(row.created_at))
        await bench.commit(ev.RunStarted(datetime.now(UTC)))
        return bench

    async def commit(self, *events: ev.Event) -> None:
        """Apply the events and commit them together."""
        for event in events:
            self.run.apply(event)
        await self.store.commit(self.claim, events, self.run.take_changes())

    def starts(self, i: int) -> tuple[ev.Event, ...]:
        """Return the events with which job i starts."""
        name, now = f"job-{i}", datetime.now(UTC)
        handle = ev.Handle("fake", f"{self.run.id}/{name}/1", {"pid": i})
        return ev.JobQueued(now, name), ev.AttemptStarting(now, name, 1), ev.AttemptStarted(now, name, 1, handle)

    def ends(self, i: int) -> ev.Event:
        """Return the event with which job i ends."""
        now = datetime.now(UTC)
        return ev.AttemptEnded(now, f"job-{i}", 1, ev.Outcome(Status.SUCCESS, 0, started_at=now, ended_at=now))


async def chain(path: Path) -> float:
    """Return the seconds of a chain of jobs: each commit ends one job and starts the next."""
    bench = await Bench.begin(path, CHAIN)
    await bench.commit(*bench.starts(0))
    began = time.perf_counter()
    for i in range(CHAIN - 1):
        await bench.commit(bench.ends(i), *bench.starts(i + 1))
    await bench.commit(bench.ends(CHAIN - 1))
    took = time.perf_counter() - began
    await bench.store.close()
    return took


async def wide(path: Path) -> float:
    """Return the seconds of a wide graph: so many jobs at once, each with a commit when it starts and one when it ends."""
    bench = await Bench.begin(path, WIDE)
    numbers = iter(range(WIDE))

    async def lane() -> None:
        for i in numbers:
            await bench.commit(*bench.starts(i))
            await bench.commit(bench.ends(i))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as lanes:
        for n in range(WIDTH):
            lanes.create_task(lane(), name=f"lane-{n}")
    took = time.perf_counter() - began
    await bench.store.close()
    return took


def compare(directory: Path, rounds: int, commits: int, measure: Callable[[Path], float]) -> tuple[float, float]:
    """Return the medians of floor and measure, taken in turns so that both see the same weather."""
    floors: list[float] = []
    figures: list[float] = []
    for _ in range(rounds):
        for into, run in ((floors, lambda path: bare(path, commits)), (figures, measure)):
            with tempfile.TemporaryDirectory(dir=directory) as place:
                into.append(run(Path(place) / "bench.db"))
    return statistics.median(floors), statistics.median(figures)


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, help="where to write; on the disk that is to be measured")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    floor, took = compare(arguments.directory, arguments.rounds, CHAIN, lambda path: asyncio.run(chain(path)))
    print(f"chain of {CHAIN} jobs: floor {floor:.3f} s, store {took:.3f} s: {took / floor:.2f} times the floor's time")

    floor, took = compare(arguments.directory, arguments.rounds, 2 * WIDE, lambda path: asyncio.run(wide(path)))
    print(
        f"{WIDE} jobs, {WIDTH} at once: floor {floor:.3f} s, store {took:.3f} s: {floor / took:.1f} times as fast, "
        f"{took / WIDE * 1e6:.0f} microseconds a job"
    )


if __name__ == "__main__":
    main()
