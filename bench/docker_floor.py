"""What the driver `docker` costs over the engine's bare API: `python -m bench.docker_floor [ROUNDS]`.

The floor is create, start, wait and remove of the same container over one kept connection, by a client that is not ours. Rounds
of floor and driver take turns, and medians are compared, because the machine's speed drifts.
"""

from __future__ import annotations

import asyncio
import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stretto.core.events import Handle
from stretto.core.ports import Launch
from stretto.core.spec import AttemptKey, ContainerSpec, JobSpec, Script
from stretto.core.states import Status
from stretto.drivers.docker import DockerDriver, DockerSettings
from tests.support.images import EngineConnection, import_image, remove_image

IMAGE = "stretto-bench:busybox"
JOBS = 20
CONCURRENCIES = (2, 4, 8)
AHEAD = 2


class Bench:
    """One driver and one engine; every job is the script `true`."""

    def __init__(self, directory: Path, start_concurrency: int = 4) -> None:
        self._directory = directory
        self._run = f"bench{os.getpid()}"
        self._count = 0
        self.driver = DockerDriver(
            DockerSettings(pull="never", start_concurrency=start_concurrency), installation=self._run
        )

    def launch(self) -> Launch:
        """Return the launch of a job that does nothing."""
        self._count += 1
        key = AttemptKey(self._run, f"job{self._count}", 1)
        job = JobSpec(key.job, "bench", "docker", script=Script(("true",)), container=ContainerSpec(IMAGE))
        return Launch(key, job, self._directory / key.name)

    async def run(self, launch: Launch) -> Handle:
        """Start an attempt, read its log and wait for its end."""
        handle = await self.driver.start(launch)
        outcome, _ = await asyncio.gather(self.driver.wait(handle), self._read(handle))
        if outcome.status is not Status.SUCCESS:
            raise RuntimeError(f"a job failed: {outcome}")
        return handle

    async def single(self) -> None:
        """One job from start to removal."""
        await self.driver.remove(await self.run(self.launch()))

    async def chain(self) -> None:
        """Jobs one after the other, the next ones prepared while one runs, removal beside."""
        launches = [self.launch() for _ in range(JOBS)]
        async with asyncio.TaskGroup() as group:
            prepared: dict[int, asyncio.Task[None]] = {}
            for i, launch in enumerate(launches):
                for ahead in range(i + 1, min(i + 1 + AHEAD, JOBS)):
                    if ahead not in prepared:
                        prepared[ahead] = group.create_task(self.driver.prepare(launches[ahead]))
                group.create_task(self.driver.remove(await self.run(launch)))

    async def parallel(self) -> None:
        """Jobs at once, each removed when it is over."""
        async with asyncio.TaskGroup() as group:
            for _ in range(JOBS):
                group.create_task(self.single())

    async def _read(self, handle: Handle) -> None:
        async for _ in self.driver.logs(handle, 0):
            pass


def bare(connection: EngineConnection) -> None:
    """The floor: a container over the API."""
    body: dict[str, Any] = {"Image": IMAGE, "Cmd": ["/bin/sh", "-c", "true"]}
    created = connection.call("POST", "/containers/create", body)[1]
    path = f"/containers/{created['Id']}"
    connection.call("POST", f"{path}/start")
    connection.call("POST", f"{path}/wait")
    connection.call("DELETE", f"{path}?force=true&v=true")


def bare_parallel(concurrency: int) -> None:
    """The floor of many: so many connections, each taking the next container."""
    connections = [EngineConnection() for _ in range(concurrency)]

    def work(mine: int) -> None:
        for _ in range(mine, JOBS, concurrency):
            bare(connections[mine])

    with ThreadPoolExecutor(concurrency) as pool:
        list(pool.map(work, range(concurrency)))
    for connection in connections:
        connection.close()


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


async def timed_async(work: Callable[[], Awaitable[None]]) -> float:
    """Return the seconds that `work` takes."""
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def measure(rounds: int) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        connection = EngineConnection()
        bare(connection)
        await bench.single()
        floors, singles, chains, parallels = [], [], [], []
        many: dict[int, list[float]] = {concurrency: [] for concurrency in CONCURRENCIES}
        for _ in range(rounds):
            for _ in range(5):
                floors.append(timed(lambda: bare(connection)))
                singles.append(await timed_async(bench.single))
            chains.append(await timed_async(bench.chain))
            for concurrency in CONCURRENCIES:
                many[concurrency].append(timed(functools.partial(bare_parallel, concurrency)))
            parallels.append(await timed_async(bench.parallel))
        connection.close()
        await bench.driver.close()
    floor = statistics.median(floors)
    best = min(many, key=lambda concurrency: statistics.median(many[concurrency]))
    row("one container over the API", floor, floor)
    row("one job", statistics.median(singles), floor)
    row(f"{JOBS} chained jobs, {AHEAD} prepared ahead", statistics.median(chains), JOBS * floor)
    for concurrency, times in many.items():
        row(f"{JOBS} containers over the API, {concurrency} at once", statistics.median(times), JOBS * floor)
    row(f"{JOBS} parallel jobs", statistics.median(parallels), statistics.median(many[best]))


def row(name: str, seconds: float, floor: float) -> None:
    """Print one line."""
    print(f"{name:45} {seconds:7.3f} s   {seconds / floor:5.2f} x its floor")


if __name__ == "__main__":
    import_image(IMAGE)
    try:
        asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
    finally:
        remove_image(IMAGE)
