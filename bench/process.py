"""Many jobs as processes of this machine: the whole command beside a bare loop that starts as many shells."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from bench.measure import interleave
from bench.project import Project, parallel
from bench.row import Row

ROUNDS = 5
JOBS = 200
AT_ONCE = 8
"""Shells at once, on both sides; more are no faster on a few cores."""


def rows() -> list[Row]:
    """Run the jobs as `stretto run` with all its state durable."""
    with tempfile.TemporaryDirectory() as directory:
        project = Project(Path(directory), parallel(JOBS))
        arguments = ("run", "--driver", "process", "--jobs", str(AT_ONCE), "-q")
        times = interleave(
            {"floor": lambda: asyncio.run(_start_shells()), "run": lambda: project.stretto(*arguments)}, rounds=ROUNDS
        )
    floor_is = f"{JOBS} `sh -c true` from one asyncio loop"
    return [Row(f"{JOBS} parallel process jobs, whole command", floor_is, times["floor"], times["run"], times=3.0)]


async def _start_shells() -> None:
    slots = asyncio.Semaphore(AT_ONCE)

    async def start() -> None:
        async with slots:
            process = await asyncio.create_subprocess_exec("sh", "-c", "true")
            await process.wait()

    async with asyncio.TaskGroup() as group:
        for number in range(JOBS):
            group.create_task(start(), name=f"shell-{number}")
