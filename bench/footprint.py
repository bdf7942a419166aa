"""What an API server needs of memory: idle, and with many runs that are listed and followed. Its resident set, all of it."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench.caller import Caller
from bench.cluster import database, make_token, serve
from bench.row import Row
from stretto.core.ports import NewRequest
from stretto.store.postgres.store import PostgresStore

RUNS, FOLLOWED, LISTERS = 10_000, 50, 8
PAGE = 500
IDLE_S = 2.0
IDLE_LIMIT_MB, BUSY_LIMIT_MB = 120.0, 250.0


def measure() -> list[Row]:
    """Measure one server before and after."""
    with tempfile.TemporaryDirectory() as name, database() as url, ExitStack() as stack:
        home = Path(name)
        token = make_token(home, url)
        server = stack.enter_context(serve("api", home, url))
        address = server.read_line()
        idle, busy = asyncio.run(_measure(address, token, url, server.pid))
    return [
        Row("API process, idle", "the limit", IDLE_LIMIT_MB, idle, times=1.0, unit="MB"),
        Row(
            f"the same: peak, {RUNS:,} runs listed by {LISTERS} clients and {FOLLOWED} followed",
            "the limit",
            BUSY_LIMIT_MB,
            busy,
            times=1.0,
            unit="MB",
        ),
    ]


async def _measure(address: str, token: str, url: str, pid: int) -> tuple[float, float]:
    await asyncio.sleep(IDLE_S)
    idle = _memory_mb(pid, "VmRSS")
    numbers = await _accept(url)
    followers = [await Caller.connect(address, token) for _ in range(FOLLOWED)]
    try:
        for follower, number in zip(followers, numbers, strict=False):
            await follower.follow(f"/api/v1/runs/{number}/events")
        listed = await asyncio.gather(*(_list(address, token) for _ in range(LISTERS)))
        if set(listed) != {RUNS}:
            raise RuntimeError(f"{listed} of {RUNS} runs were listed")
        return idle, _memory_mb(pid, "VmHWM")
    finally:
        for follower in followers:
            follower.close()


async def _accept(url: str) -> list[int]:
    """Store runs that nobody conducts, and return their numbers."""
    store = await PostgresStore.open(url)
    repository = "https://example.org/team/project.git"
    try:
        new = NewRequest(
            {"repository": repository}, datetime.now(UTC), name="build", repository=repository, branch="main"
        )
        stored = [await store.accept([new] * PAGE) for _ in range(RUNS // PAGE)]
    finally:
        await store.close()
    return [row.number for part in stored for row, _ in part]


async def _list(address: str, token: str) -> int:
    """Return how many runs there are, page by page."""
    caller = await Caller.connect(address, token)
    count, before = 0, ""
    while True:
        page = await caller.ask("GET", f"/api/v1/runs?limit={PAGE}{before}")
        count += len(page["runs"])
        if page["next"] is None:
            caller.close()
            return count
        before = f"&before={page['next']}"


def _memory_mb(pid: int, name: str) -> float:
    """Return a line of the process's status (proc(5)) in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no {name}")
