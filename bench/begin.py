"""From a submission to an idle server until its first job runs, against what none can do without: a notification and a start.

The server is one process with everything, the job one of the `process` driver. The repository was seen before: whoever pushes to
one that nobody knows waits for a clone in any case.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psycopg

from bench.caller import Caller
from bench.cluster import database, make_token, serve
from bench.row import Row
from stretto.core.ports import Launch, Tree
from stretto.core.spec import AttemptKey, JobSpec, Script
from stretto.drivers.process.driver import ProcessDriver
from stretto.drivers.process.settings import ProcessSettings
from tests.support.repository import git, make_repository

ROUNDS = 15
IDLE_S = 0.5
"""Between two submissions: time for the server to have nothing to do any more."""
TIMEOUT_S = 30.0
PIPELINE = "name: bench\njobs:\n  job: {stage: build, script: ':'}\n"
MOST_OVER_S = 0.020


def row() -> Row:
    """Take turns; the commit is named, as a push or a person's command line does."""
    with tempfile.TemporaryDirectory() as name, database() as url:
        place = Path(name)
        repository = make_repository(place / "repository", {"pipeline.yml": PIPELINE})
        home = place / "home"
        token = make_token(home, url)
        given = {"STRETTO_DRIVER": "process", "STRETTO_API_LOCAL_ROOT": str(place)}
        with serve("all", home, url, **given) as server:
            body = {"repository": str(repository), "branch": "main", "commit": git(repository, "rev-parse", "HEAD")}
            floors, measured = asyncio.run(_measure(server.read_line(), token, body, url, place / "floor", repository))
    return Row(
        "`POST /runs` to the first job started, idle server",
        "one `NOTIFY` round trip and one start by the `process` driver",
        median(floors[1:]),
        median(measured[1:]),
        plus=MOST_OVER_S,
    )


async def _measure(
    address: str, token: str, body: dict[str, str], url: str, attempts: Path, tree: Path
) -> tuple[list[float], list[float]]:
    floors, measured = [], []
    attempts.mkdir()
    caller = await Caller.connect(address, token)
    try:
        for _ in range(ROUNDS + 1):
            await asyncio.sleep(IDLE_S)
            floors.append(await _notify(url) + await _start(attempts, tree))
            await asyncio.sleep(IDLE_S)
            measured.append(await _submit(caller, body))
    finally:
        caller.close()
    return floors, measured


async def _submit(caller: Caller, body: dict[str, str]) -> float:
    """Return the seconds from asking until the job was started, as the server has it on record."""
    began_at = datetime.now(UTC)
    (run,) = (await caller.ask("POST", "/api/v1/runs", body))["runs"]
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            await asyncio.sleep(IDLE_S / 2)  # asking all the time would be what it is busy with
            found = (await caller.ask("GET", f"/api/v1/runs/{run['number']}/events"))["events"]
            events = {it["event"]["kind"]: it["event"] for it in found}
            if "run_ended" in events:
                break
    if events["run_ended"]["status"] != "success":
        raise RuntimeError(f"the run ended: {events['run_ended']}")
    return (datetime.fromisoformat(events["attempt_started"]["at"]) - began_at).total_seconds()


async def _notify(url: str) -> float:
    """Return the seconds until a connection that listens hears what another one tells."""
    listener = await psycopg.AsyncConnection.connect(url, autocommit=True)
    teller = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with listener, teller:
        await listener.execute("LISTEN floor")
        began = time.perf_counter()
        await teller.execute("NOTIFY floor")
        async for _ in listener.notifies(timeout=TIMEOUT_S, stop_after=1):
            return time.perf_counter() - began
    raise RuntimeError("no notification came")


async def _start(attempts: Path, tree: Path) -> float:
    """Return the seconds that the driver takes to start the job, with its view of the tree."""
    driver = ProcessDriver(ProcessSettings(attempts=attempts))
    key = AttemptKey(os.urandom(13).hex(), "job", 1)
    launch = Launch(key, JobSpec("job", "build", "process", script=Script((":",))), attempts / key.name, Tree((tree,)))
    try:
        began = time.perf_counter()
        handle = await driver.start(launch)
        took = time.perf_counter() - began
        await driver.wait(handle)
        await driver.remove(handle)
    finally:
        await driver.close()
    return took
