"""`kill -9` of a run in Docker at random moments, resumed each time: the same report, each side effect once, nothing left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stretto.reports.compare import same_result
from stretto.reports.model import from_json
from tests.support.cli import PROGRAM, environment, run_cli
from tests.support.images import import_image
from tests.support.outside import Listener, leftovers
from tests.support.repository import make_repository

JOBS = 30
KILLS = 50
SEED = int(os.environ.get("STRETTO_SIM_SEED", "20"))
MOMENTS_S = (0.05, 1.2)
"""A kill comes this long after a start: from before the run is taken up to several jobs later."""
IMAGE = "stretto-test:busybox"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    """A listener over an empty file."""
    outside = tmp_path / "outside.txt"
    outside.touch()
    listener = Listener(outside)
    yield listener
    listener.close()


def pipeline(port: int) -> str:
    """Return a definition with 30 jobs: stages, needs, artifacts that are passed on, an allowed failure, a retry."""
    jobs = []
    for i in range(JOBS):
        stage = f"s{i // 10}"
        needs = f"    needs: [j{i - 1}, j{i - 7}]\n" if i % 10 in (7, 9) else ""
        script = [f"echo j{i} $STRETTO_ATTEMPT | nc -w 5 127.0.0.1 {port}", f"sleep 0.{i % 4}"]
        if i >= 10:
            script.append("test $(ls out | wc -l) -ge 9" if not needs else "ls")
        script += ["mkdir -p out", f"echo {i} > out/{i}"]
        extra = ""
        if i == 5:
            script.append("exit 3")
            extra = "    allow_failure: true\n"
        if i == 13:
            script.append("test $STRETTO_ATTEMPT -gt 1")
            extra = "    retry: 1\n"
        lines = "".join(f"      - {line!r}\n" for line in script)
        jobs.append(f"  j{i}:\n    stage: {stage}\n    artifacts: {{paths: [out]}}\n{needs}{extra}    script:\n{lines}")
    return f"name: killed\nstages: [s0, s1, s2]\ndefault: {{image: '{IMAGE}'}}\njobs:\n" + "".join(jobs)


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_run_killed_at_random_moments_ends_as_if_undisturbed(tmp_path: Path, listener: Listener) -> None:
    """Fifty kills over as many runs as they last; every run ends with the undisturbed report and every effect once."""
    import_image(IMAGE)
    chance = random.Random(SEED)
    repository = make_repository(tmp_path / "repository", {"pipeline.yml": pipeline(listener.port)})
    home = tmp_path / "home"
    variables = {"STRETTO_DOCKER_NETWORK": "host"}
    calm = run_cli(["run", "--json", "-q"], repository, home, variables=variables, timeout_s=120)
    assert calm.code == 1, calm.err
    wanted, effects = from_json(calm.report), listener.take_effects()
    assert sum(effects.values()) == JOBS + 1
    kills = rounds = 0
    while kills < KILLS:
        rounds += 1
        began_with = kills
        report, killed = _run_with_kills(repository, home, variables, chance, KILLS - kills)
        kills += killed
        assert not same_result(wanted, from_json(report)), f"seed {SEED}, run {rounds}"
        assert listener.take_effects() == effects, f"seed {SEED}, run {rounds}"
        assert not leftovers(home), f"seed {SEED}, run {rounds}"
        assert kills > began_with, "a run ended without having been killed: the moments are too late"


def _run_with_kills(
    repository: Path, home: Path, variables: dict[str, str], chance: random.Random, kills: int
) -> tuple[dict[str, Any], int]:
    """Run to the end, killed at random moments up to `kills` times and resumed; return the report and how often it was."""
    newest = latest(repository, home)
    printed = home / "printed.txt"
    killed = 0
    command = ["run", "-q", "--json"]
    while True:
        with printed.open("wb") as out:
            program = subprocess.Popen(
                [PROGRAM, *command],
                cwd=repository,
                env=environment(home, variables),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            code = program.wait(timeout=chance.uniform(*MOMENTS_S) if killed < kills else 120)
        except subprocess.TimeoutExpired:
            assert killed < kills, "the run hangs"
            program.send_signal(signal.SIGKILL)
            program.wait(timeout=10)
            killed += 1
        else:
            assert code == 1, f"exit code {code} after {killed} kills: {printed.read_text()}"
            return json.loads(printed.read_text()), killed
        number = latest(repository, home)
        command = ["run", "-q", "--json"] if number == newest else ["resume", str(number), "-q", "--json"]


def latest(repository: Path, home: Path) -> int:
    """Return the number of the newest run, 0 without any."""
    rows = json.loads(run_cli(["runs", "--json", "--limit", "1"], repository, home).out)
    return int(rows[0]["number"]) if rows else 0
