"""Jobs in containers: the whole command beside create, start, wait and remove through the engine's API."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.measure import interleave
from bench.project import Project, chain, parallel
from bench.row import Row
from scripts import engine, image
from scripts.engine import Engine

ROUNDS = 5
ROUNDS_OF_MANY = 3
MANY = 20
CONCURRENCIES = (2, 4, 8)


def rows() -> list[Row]:
    """Measure one job, a chain of jobs and as many at once. An engine must answer."""
    address = engine.find()
    if address is None:
        raise RuntimeError("no Docker engine answers (scripts/services up docker)")
    tag = image.make("shell", address)
    with tempfile.TemporaryDirectory() as directory:
        return [*_single(address, tag, Path(directory)), *_parallel(address, tag, Path(directory))]


def _single(address: str, tag: str, directory: Path) -> list[Row]:
    one, chained = Project(directory / "one", parallel(1, tag)), Project(directory / "chain", chain(MANY, tag))
    arguments = ("run", "--driver", "docker", "-q")
    with _connect(address) as api:
        times = interleave(
            {"floor": lambda: _run_container(api, tag), "run": lambda: one.stretto(*arguments)}, rounds=ROUNDS
        )
        many = interleave(
            {
                "floor": lambda: _run_chain(api, tag),
                "run": lambda: chained.stretto(*arguments),
            },
            rounds=ROUNDS_OF_MANY,
        )
    calls = "create, start, wait, remove by API"
    return [
        Row("one container job, whole command", calls, times["floor"], times["run"], plus=0.25),
        Row(f"{MANY} chained container jobs", f"{MANY} times {calls}", many["floor"], many["run"], times=1.0),
    ]


def _parallel(address: str, tag: str, directory: Path) -> list[Row]:
    project = Project(directory / "parallel", parallel(MANY, tag))

    def run_at_once(concurrency: int) -> None:
        def work(count: int) -> None:
            with _connect(address) as api:
                for _ in range(count):
                    _run_container(api, tag)

        shares = [len(range(first, MANY, concurrency)) for first in range(concurrency)]
        with ThreadPoolExecutor(concurrency) as pool:
            list(pool.map(work, shares))

    times = interleave(
        {
            **{f"floor-{n}": partial(run_at_once, n) for n in CONCURRENCIES},
            "run": lambda: project.stretto("run", "--driver", "docker", "-q"),
        },
        rounds=ROUNDS_OF_MANY,
    )
    floor, best = min((times[f"floor-{n}"], n) for n in CONCURRENCIES)
    floor_is = f"the same {MANY} by API, {best} at once (the best of {', '.join(map(str, CONCURRENCIES))})"
    return [Row(f"{MANY} parallel container jobs", floor_is, floor, times["run"], times=1.1)]


def _run_chain(api: Engine, tag: str) -> None:
    for _ in range(MANY):
        _run_container(api, tag)


@contextmanager
def _connect(address: str) -> Iterator[Engine]:
    api = Engine(address)
    try:
        yield api
    finally:
        api.close()


def _run_container(api: Engine, tag: str) -> None:
    container = api.call("POST", "/containers/create", {"Image": tag, "Cmd": ["sh", "-c", ":"]})["Id"]
    try:
        api.call("POST", f"/containers/{container}/start")
        code = api.call("POST", f"/containers/{container}/wait")["StatusCode"]
    finally:
        api.call("DELETE", f"/containers/{container}", force="true")
    if code != 0:
        raise RuntimeError(f"the floor's container ended with {code}")
