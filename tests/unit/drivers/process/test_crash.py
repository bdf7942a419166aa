"""An orchestrator is killed at random moments; what it started goes on, is adopted, and happens exactly once."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from stretto.core.ports import Launch
from stretto.core.spec import AttemptKey, JobSpec, Script
from stretto.drivers.process import ProcessDriver, ProcessSettings

JOBS = 6
KILLS = 15
SEED = random.SystemRandom().randrange(10**9)

ORCHESTRATOR = """
import asyncio, sys
from pathlib import Path
from tests.unit.drivers.process.test_crash import run_all
asyncio.run(run_all(Path(sys.argv[1])))
"""


def launches(directory: Path) -> list[Launch]:
    """Return jobs that each leave a line in a file of their own, outside, and end with their own code after a moment."""
    made = []
    for i in range(JOBS):
        key = AttemptKey("crash", f"job{i}", 1)
        lines = (f"echo ran >>{directory}/effect{i}", "sleep 0.05", f"echo out {i}", f"exit {i}")
        job = JobSpec(key.job, "test", "process", script=Script(lines))
        made.append(Launch(key, job, directory / "attempts" / key.name))
    return made


async def run_all(directory: Path) -> list[tuple[int | None, bytes]]:
    """Do what an orchestrator does: start or adopt every job, and wait for all; the attempts stay."""
    driver = ProcessDriver(ProcessSettings(attempts=directory / "attempts"))

    async def run(launch: Launch) -> tuple[int | None, bytes]:
        handle = await driver.start(launch)
        log = b"".join([chunk.data async for chunk in driver.logs(handle, 0)])
        return (await driver.wait(handle)).exit_code, log

    ends = await asyncio.gather(*map(run, launches(directory)))
    await driver.close()
    return list(ends)


def run_and_kill(directory: Path, moment_s: float) -> None:
    """Run the jobs in a process that is killed so long after the first start began."""
    process = subprocess.Popen(
        [sys.executable, "-c", ORCHESTRATOR, str(directory)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    deadline = time.monotonic() + 30
    while not (directory / "attempts").exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(moment_s)
    process.kill()
    process.wait()


async def test_killed_orchestrator_leaves_every_job_to_run_once(tmp_path: Path) -> None:
    """Killed again and again, from before the first start to after the last end: each side effect happens exactly once."""
    moments = random.Random(SEED)
    for n in range(KILLS):
        directory = tmp_path / str(n)
        directory.mkdir()
        await asyncio.to_thread(run_and_kill, directory, moments.uniform(0, 0.15))
        async with asyncio.timeout(30):
            ends = await run_all(directory)
        said = f"seed {SEED}, kill {n}"
        assert ends == [(i, b"out %d\n" % i) for i in range(JOBS)], said
        assert [(directory / f"effect{i}").read_text() for i in range(JOBS)] == ["ran\n"] * JOBS, said
        driver = ProcessDriver(ProcessSettings(attempts=directory / "attempts"))
        for handle in await driver.orphans():
            await driver.remove(handle)
        assert list((directory / "attempts").iterdir()) == [], said
        await driver.close()
