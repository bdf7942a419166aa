"""The message queue when things die: conductors by `kill -9`, and the broker itself, under load. Nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from scripts.service.rabbitmq import RabbitMQ
from stretto.doors.amqp.outbox import Outbox, Rhythm
from stretto.doors.amqp.publisher import Publisher
from stretto.store.sqlite import SqliteStore
from tests.support.background import until as wait
from tests.support.cli import PROGRAM, environment
from tests.support.queue import Broker, submit, until
from tests.support.repository import make_repository

pytestmark = [pytest.mark.rabbitmq, pytest.mark.slow]

SEED = int(os.environ.get("STRETTO_SIM_SEED", "20"))
SOON = Rhythm(every_s=0.5, untold_s=1.0, again_s=3.0)


class Conductors:
    """Processes that consume; each definition they make is a line in `log`."""

    def __init__(self, broker: Broker, store: Path, log: Path) -> None:
        self.log = log
        name = broker.names.submissions.removesuffix(".submissions")
        self._command = [sys.executable, "-m", "tests.support.consumer", broker.url, name, str(store), str(log)]
        self.processes: list[subprocess.Popen[bytes]] = []

    def begin(self) -> None:
        """Start one more."""
        self.processes.append(subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def kill(self, which: int) -> None:
        """End one without a chance to finish anything."""
        process = self.processes.pop(which)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        """End all."""
        while self.processes:
            self.kill(0)

    def lines(self) -> Counter[str]:
        """Return what they did, each line with how often."""
        return Counter(self.log.read_text().split("\n")[:-1]) if self.log.exists() else Counter()


@asynccontextmanager
async def accepting(broker: Broker, path: Path) -> AsyncIterator[tuple[SqliteStore, Publisher, Outbox]]:
    """What an API server has of the queue."""
    store = await SqliteStore.open(path)
    publisher = Publisher(broker.url, names=broker.names)
    outbox = Outbox(store, publisher, rhythm=SOON)
    running = [asyncio.create_task(publisher.run()), asyncio.create_task(outbox.run())]
    try:
        await until(lambda: publisher.trouble is None, "connection")
        yield store, publisher, outbox
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await store.close()


async def undefined(store: SqliteStore) -> list[str]:
    """Return the runs that nobody defined."""
    return await store.unpublished(older_than_s=0.0, again_after_s=0.0, limit=10_000)


def check(conductors: Conductors, run_ids: list[str]) -> None:
    """Fail unless each run was defined, and none twice; one whose conductor died before it wrote its line may have none."""
    lines = conductors.lines()
    assert not [line for line in lines if line.startswith("twice")]
    assert set(lines) <= {f"defined {run_id}" for run_id in run_ids}
    assert set(lines.values()) == {1}


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    """Queues of the test's own."""
    found = Broker(os.environ["STRETTO_TEST_RABBITMQ"])
    yield found
    await found.clean()


@pytest.fixture
def node() -> Iterator[RabbitMQ]:
    """A broker of the test's own, as it is restarted and killed; not where pytest closes folders to the broker's user."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        made = RabbitMQ(Path(folder, "services"))
        try:
            made.start()
            yield made
        finally:
            made.stop()


async def test_conductors_killed_lose_nothing(broker: Broker, tmp_path: Path) -> None:
    """Three conductors, one of which is killed and replaced time and again, define 300 runs once each."""
    chance = random.Random(SEED)
    conductors = Conductors(broker, tmp_path / "stretto.db", tmp_path / "log")
    async with accepting(broker, tmp_path / "stretto.db") as (store, _, outbox):
        try:
            for _ in range(3):
                conductors.begin()
            run_ids: list[str] = []
            for _ in range(10):
                new = await submit(store, 30)
                outbox.tell(new)
                run_ids += new
                await asyncio.sleep(chance.uniform(0.2, 0.8))
                await asyncio.to_thread(conductors.kill, chance.randrange(3))
                conductors.begin()
            await until(lambda: _none(store), "definition of all")
        finally:
            await asyncio.to_thread(conductors.close)
    check(conductors, run_ids)
    assert sum(conductors.lines().values()) > 250
    assert await broker.count(broker.names.dead) == 0


@pytest.mark.parametrize("kill", [False, True], ids=["restarted", "killed"])
async def test_broker_away_under_load_loses_nothing(node: RabbitMQ, tmp_path: Path, kill: bool) -> None:
    """200 runs accepted while the broker is away, and 200 before and after, are all defined without anybody's help."""
    broker = Broker((await asyncio.to_thread(node.find) or {})["STRETTO_TEST_RABBITMQ"])
    conductors = Conductors(broker, tmp_path / "stretto.db", tmp_path / "log")
    async with accepting(broker, tmp_path / "stretto.db") as (store, publisher, outbox):
        try:
            for _ in range(2):
                conductors.begin()
            run_ids: list[str] = []

            async def load(count: int) -> None:
                for _ in range(count // 10):
                    new = await submit(store, 10)
                    outbox.tell(new)
                    run_ids.extend(new)
                    await asyncio.sleep(0.02)

            await load(10)
            await until(lambda: _none(store), "definition of the first")
            await asyncio.sleep(1.0)  # RabbitMQ writes where a new queue is a moment after it says that there is one
            loading = asyncio.create_task(load(90))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(node.halt, kill=kill)
            await loading
            await until(lambda: publisher.trouble, "trouble")
            await load(200)
            assert len(await undefined(store)) >= 200
            await asyncio.to_thread(node.run)
            await load(100)
            await until(lambda: _none(store), "definition of all")
        finally:
            await asyncio.to_thread(conductors.close)
    assert len(run_ids) == 400
    check(conductors, run_ids)
    assert await broker.count(broker.names.dead) == 0


async def _none(store: SqliteStore) -> bool:
    return not await undefined(store)


PIPELINE = """
name: effects
jobs:
  effect:
    stage: build
    image: any
    script: echo $EFFECT >> %s
"""


class Server:
    """Processes of one server, which share a home, a repository and a queue."""

    def __init__(self, folder: Path, queue: str) -> None:
        self.effects = folder / "effects"
        self.repository = make_repository(folder / "repository", {"pipeline.yml": PIPELINE % self.effects})
        self._home = folder / "home"
        variables = {"STRETTO_QUEUE": queue, "STRETTO_DRIVER": "process", "STRETTO_API_LOCAL_ROOT": str(folder)}
        self._environment = environment(self._home, variables)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.url = ""
        self._token = self._say("token", "create", "tester", "--scope", "admin").strip()

    def begin(self, role: str) -> None:
        """Start a process; of an API, know its URL."""
        command = [PROGRAM, "serve", "--role", role, *(["--port", "0"] if role == "api" else [])]
        process = subprocess.Popen(
            command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        self._processes.append(process)
        if role == "api":
            assert process.stdout is not None
            self.url = process.stdout.readline().decode().strip()

    def call(self, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and answer of a request."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)

    def statuses(self) -> Counter[str]:
        """Return how many runs there are of each status; none has failed."""
        runs = self.call("/api/v1/runs?limit=500")[1]["runs"]
        assert not [run["message"] for run in runs if run["status"] == "failed"]
        return Counter(run["status"] for run in runs)

    def close(self) -> None:
        """End all in good order."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.communicate(timeout=30)

    def _say(self, *arguments: str) -> str:
        return subprocess.run(
            [PROGRAM, *arguments], env=self._environment, check=True, capture_output=True
        ).stdout.decode()


def test_server_accepts_while_its_queue_is_away(node: RabbitMQ, tmp_path: Path) -> None:
    """An API and two conductors: what is posted while RabbitMQ is away is accepted at once, and runs, once, when it is back."""
    server = Server(tmp_path, (node.find() or {})["STRETTO_TEST_RABBITMQ"])
    try:
        for role in ("api", "conductor", "conductor"):
            server.begin(role)
        wait(lambda: server.call("/ready")[1]["status"] == "ok", "readiness")

        def post(number: int) -> None:
            body = {"repository": str(server.repository), "branch": "main", "variables": {"EFFECT": str(number)}}
            status, _ = server.call("/api/v1/runs", body)
            assert status == 202

        for number in range(10):
            post(number)
        wait(lambda: server.statuses() == {"success": 10}, "end of ten runs")
        node.halt()
        wait(lambda: server.call("/ready")[1]["status"] == "degraded", "degraded readiness")
        for number in range(10, 30):
            post(number)
        assert server.statuses() == {"success": 10, "pending": 20}
        node.run()
        wait(lambda: server.statuses() == {"success": 30}, "end of all runs")
        wait(lambda: server.call("/ready")[1] == {"status": "ok"}, "readiness")
    finally:
        server.close()
    assert sorted(map(int, server.effects.read_text().split())) == list(range(30))
