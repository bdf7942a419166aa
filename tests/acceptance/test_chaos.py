"""Everything dies again and again: API servers, conductors, the database, the queue; no accepted run is lost or done twice."""

from __future__ import annotations

import http.client
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, own_database
from tests.support.images import import_image
from tests.support.outside import Listener, leftovers
from tests.support.repository import git, make_repository

ROOT = Path(__file__).resolve().parent.parent.parent
RUNS = 300
IN_DOCKER = 5
"""Of so many runs one has its jobs in containers, the others as processes."""
SUBMIT_EVERY_S = 0.1
KILL_EVERY_S = 2.0
RESTARTS_S = {12.0: "postgres", 24.0: "rabbitmq"}
"""When, counted from the first submission, which service is restarted."""
TIME_LIMIT_S = 420.0
SEED = int(os.environ.get("STRETTO_SIM_SEED", "3"))
IMAGE = "stretto-test:busybox"


def definition(driver: str, port: int) -> str:
    """Return a pipeline of three jobs, the last after the others, each of which is seen outside when it runs."""
    tell = {
        "docker": f'echo "$STRETTO_RUN_ID $STRETTO_JOB $STRETTO_ATTEMPT" | nc -w 5 127.0.0.1 {port}',
        "process": f'exec 3<>/dev/tcp/127.0.0.1/{port}; echo "$STRETTO_RUN_ID $STRETTO_JOB $STRETTO_ATTEMPT" >&3',
    }[driver]
    script = tell if driver == "docker" else f"bash -c '{tell}'"
    jobs = "".join(
        f"  {name}:\n    stage: {stage}\n    script:\n      - |\n        {script}\n      - sleep 0.{nap}\n"
        for name, stage, nap in (("a", "one", 3), ("b", "one", 1), ("c", "two", 0))
    )
    return f"name: {driver}\nstages: [one, two]\ndefault: {{image: '{IMAGE}'}}\njobs:\n{jobs}"


class Killer(threading.Thread):
    """Kills a process of the server now and then, starts it again, and restarts the services once each."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(name="killer", daemon=True)
        self._cluster = cluster
        self._chance = random.Random(SEED)
        self._over = threading.Event()
        self.killed: list[str] = []
        self.restarted: list[str] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        """Kill until told to end."""
        begun, due = time.monotonic(), dict(RESTARTS_S)
        try:
            while not self._over.wait(KILL_EVERY_S):
                node = self._chance.choice(self._cluster.nodes)
                node.kill()
                self.killed.append(node.name)
                for moment in [moment for moment in due if time.monotonic() - begun > moment]:
                    service = due.pop(moment)
                    command = [sys.executable, "-m", "scripts.services", "restart", service]
                    subprocess.run(command, cwd=ROOT, check=True, timeout=90, capture_output=True)
                    self.restarted.append(service)
                node.start()
        except BaseException as error:
            self.error = error

    def quit(self) -> None:
        """Stop killing."""
        self._over.set()
        if self.is_alive():
            self.join(timeout=120)

    def end(self) -> None:
        """Stop killing; whatever went wrong is raised."""
        self.quit()
        if self.error is not None:
            raise self.error


def submit(cluster: Cluster, number: int, branch: str, repository: Path) -> str:
    """Ask until it is accepted, of one API server after the other, with the same key each time; return the run's id."""
    body = {"repository": str(repository), "branch": branch, "driver": branch}
    deadline = time.monotonic() + TIME_LIMIT_S
    api = number
    while time.monotonic() < deadline:
        try:
            key = {"Idempotency-Key": f"chaos-{number}"}
            status, answer = cluster.call(api % 2, "POST", "/api/v1/runs", body, **key)
        except (OSError, http.client.HTTPException):
            status = 0
        if status in (200, 202):
            return str(answer["runs"][0]["id"])
        assert status in (0, 500, 502, 503, 504), answer
        api += 1
        time.sleep(0.2)
    raise AssertionError(f"submission {number} was never accepted")


@pytest.mark.docker
@pytest.mark.postgres
@pytest.mark.rabbitmq
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_accepted_run_is_lost_or_done_twice(tmp_path: Path) -> None:
    """300 runs while every 2 s a process is killed and database and queue are restarted: each effect once, nothing left."""
    with own_database(f"chaos_{os.getpid()}") as database:
        _run_through_chaos(tmp_path, database)


def _run_through_chaos(tmp_path: Path, database: str) -> None:
    import_image(IMAGE)
    outside = tmp_path / "outside.txt"
    outside.touch()
    listener = Listener(outside)
    repository = make_repository(
        tmp_path / "remotes" / "effects", {"pipeline.yml": definition("process", listener.port)}
    )
    git(repository, "checkout", "-q", "-b", "docker")
    (repository / "pipeline.yml").write_text(definition("docker", listener.port))
    git(repository, "commit", "-qam", "Use containers")
    git(repository, "branch", "-m", "main", "process")
    variables = {
        "STRETTO_DATABASE": database,
        "STRETTO_QUEUE": os.environ["STRETTO_TEST_RABBITMQ"],
        "STRETTO_API_LOCAL_ROOT": str(tmp_path / "remotes"),
        "STRETTO_DOCKER_NETWORK": "host",
    }
    cluster = Cluster(tmp_path, variables, apis=2, conductors=3)
    killer = Killer(cluster)
    try:
        cluster.start()
        killer.start()
        ids = []
        for number in range(RUNS):
            ids.append(submit(cluster, number, "docker" if number % IN_DOCKER == 0 else "process", repository))
            time.sleep(SUBMIT_EVERY_S)
        wait_until_final(cluster, ids)
        killer.end()
        check(cluster, ids, listener)
        assert len(killer.killed) >= 15, killer.killed
        assert sorted(killer.restarted) == sorted(RESTARTS_S.values())
        for conductor in cluster.conductors:
            conductor.stop()
    finally:
        killer.quit()
        cluster.stop()
        listener.close()
    assert not leftovers(cluster.home)


def wait_until_final(cluster: Cluster, ids: list[str]) -> None:
    """Come back when every run is over."""
    left, deadline = set(ids), time.monotonic() + TIME_LIMIT_S
    while left:
        assert time.monotonic() < deadline, f"{len(left)} runs are not over: {sorted(left)[:5]}"
        for api in range(len(cluster.apis)):
            try:
                for run in sorted(left):
                    status, row = cluster.call(api, "GET", f"/api/v1/runs/{run}")
                    if status == 200 and row["ended_at"] is not None:
                        left.discard(run)
            except (OSError, http.client.HTTPException):
                continue
        time.sleep(0.5)


def check(cluster: Cluster, ids: list[str], listener: Listener) -> None:
    """Every run is there once and succeeded, and each of its jobs had its effect exactly once."""
    for api in cluster.apis:
        api.wait_ready()
    assert len(set(ids)) == RUNS
    failed = {}
    for run in ids:
        _, row = cluster.call(0, "GET", f"/api/v1/runs/{run}")
        if row["status"] != "success":
            failed[row["number"]] = (row["status"], row["reason"], row["message"])
    assert not failed
    effects = listener.effects()
    assert {line: count for line, count in effects.items() if count != 1} == {}
    assert set(effects) == {f"{run} {job} 1" for run in ids for job in "abc"}
