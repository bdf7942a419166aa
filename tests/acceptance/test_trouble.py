"""What goes wrong around a run has a reason of its own in the report, the run ends, and what is mended goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.background import Programs, until
from tests.support.cli import PROGRAM, Result, environment, jobs_of, run_cli
from tests.support.images import import_image
from tests.support.repository import make_repository
from tests.unit.drivers.docker.support import Engine

MIB = 1024 * 1024
RUN = ["run", "--json", "-q"]
IN_PROCESS = [*RUN, "--driver", "process"]


def one_job(path: Path, script: str | list[str], *, image: str = "none:1", **job: Any) -> Path:
    """Make a repository whose pipeline runs `work` and then, in the next stage, `after`."""
    jobs = {
        "work": {"stage": "test", "script": script, **job},
        "after": {"stage": "deploy", "script": "true"},
    }
    pipeline = json.dumps({"name": "app", "default": {"image": image}, "jobs": jobs})
    return make_repository(path, {"pipeline.yml": pipeline})


def assert_failed(done: Result, reason: str, *words: str) -> None:
    """Check that the run ended as failed, for this reason of the job `work`, whose message has these words."""
    assert done.code == 1, done.err
    assert done.report["run"]["status"] == "failed"
    jobs = jobs_of(done.report)
    assert (jobs["work"]["status"], jobs["work"]["reason"]) == ("failed", reason), jobs["work"]
    assert (jobs["after"]["status"], jobs["after"]["reason"]) == ("skipped", "run_stopped")
    for word in words:
        assert word in jobs["work"]["message"]


# ------------------------------------------------------------------------------------------------------------- engines


@pytest.mark.docker
def test_missing_image_is_its_own_reason(tmp_path: Path, home: Path) -> None:
    """The image is not on the engine and must not be pulled."""
    repository = one_job(tmp_path / "repo", "true", image="stretto-acceptance:none")
    done = run_cli(RUN, repository, home, variables={"STRETTO_DOCKER_PULL": "never"})
    assert_failed(done, "image_missing", "stretto-acceptance:none")


@pytest.mark.docker
def test_image_that_cannot_be_pulled_is_its_own_reason(tmp_path: Path, home: Path) -> None:
    """Nothing listens where the registry should be."""
    done = run_cli(RUN, one_job(tmp_path / "repo", "true", image="127.0.0.1:1/none:1"), home)
    assert_failed(done, "image_pull", "127.0.0.1:1/none:1")


def test_dead_engine_is_its_own_reason(tmp_path: Path, home: Path) -> None:
    """No engine answers at DOCKER_HOST."""
    socket = tmp_path / "none.sock"
    done = run_cli(RUN, one_job(tmp_path / "repo", "true"), home, variables={"DOCKER_HOST": f"unix://{socket}"})
    assert_failed(done, "engine_unavailable", str(socket))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine of our own, which may be killed; who kills it starts it again."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("needs root and dockerd")
    engine = Engine(tmp_path_factory.mktemp("engine"))
    try:
        engine.start()
        import_image("own:1", path=str(engine.socket))
        yield engine
    finally:
        engine.stop()


@pytest.mark.docker
@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("comes_back", [True, False], ids=["comes back", "stays dead"])
def test_engine_killed_under_a_job_ends_the_run(
    tmp_path: Path, home: Path, background: Programs, engine: Engine, comes_back: bool
) -> None:
    """An engine that comes back says what became of the job; for one that stays dead there is an end of waiting."""
    repository = one_job(tmp_path / "repo", ["echo begun", "sleep 600"], image="own:1")
    variables = {"DOCKER_HOST": engine.host, "STRETTO_DOCKER_NETWORK": "none"}
    program = background.begin(RUN, repository, home, variables=variables)
    until(lambda: run_cli(["logs", "latest", "work"], repository, home).out == "begun\n", "output of the job")
    engine.kill()
    try:
        if comes_back:
            engine.start()
        out, err = program.communicate(timeout=90)
    finally:
        if not comes_back:
            engine.start()
    done = Result(program.returncode, out.decode(), err.decode())
    if not comes_back:
        assert_failed(done, "engine_unavailable", str(engine.socket))
    else:
        assert_failed(done, jobs_of(done.report)["work"]["reason"])
        assert jobs_of(done.report)["work"]["reason"] in ("lost", "killed")
    assert run_cli(["logs", "1", "work"], repository, home).out == "begun\n"
    assert run_cli(["gc"], repository, home, variables=variables).code == 0
    assert not list((home / "attempts").iterdir())


# -------------------------------------------------------------------------------------------------------------- disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "none", disk], check=True, timeout=10)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True, timeout=10)


def enlarge(disk: Path) -> None:
    """Give the disk more room."""
    subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True, timeout=10)


def fill(disk: Path) -> Path:
    """Take all the room there is and return the file that has it."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    return path


@pytest.mark.docker
@pytest.mark.root
def test_output_that_does_not_fit_fails_the_job(tmp_path: Path, small_disk: Path, image: str) -> None:
    """A job prints more than there is room for where output is kept; with room again, the next run works."""
    home = small_disk / "home"
    repository = one_job(tmp_path / "repo", "head -c 60000000 /dev/zero; sleep 600", image=image)
    assert_failed(run_cli(RUN, repository, home), "disk_full", "no room left", "stopped")
    enlarge(small_disk)
    again = run_cli([*RUN, "--set", "jobs.work.script=echo little"], repository, home)
    assert again.code == 0, again.err
    assert run_cli(["logs", "latest", "work"], repository, home).out == "little\n"


@pytest.mark.root
def test_artifacts_that_do_not_fit_fail_the_job(tmp_path: Path, small_disk: Path) -> None:
    """The job's files fit once, but not a second time where artifacts are kept."""
    home = small_disk / "home"
    repository = one_job(tmp_path / "repo", "head -c 15000000 /dev/zero > big", artifacts={"paths": ["big"]})
    assert_failed(run_cli(IN_PROCESS, repository, home), "disk_full", "no room left")
    again = run_cli([*IN_PROCESS, "--set", "jobs.work.script=echo x > big"], repository, home)
    assert again.code == 0, again.err


def waiting_job(tmp_path: Path, then: str) -> Path:
    """Make a repository whose job says that it is going, and goes on when the file `go` is there."""
    waits = f"touch {tmp_path}/going; until test -e {tmp_path}/go; do sleep 0.05; done"
    return one_job(tmp_path / "repo", [waits, then])


@pytest.mark.root
def test_full_disk_lets_a_run_end(tmp_path: Path, small_disk: Path, background: Programs) -> None:
    """What is under way can still be put on record, with the room that was held back."""
    home = small_disk / "home"
    repository = waiting_job(tmp_path, f"echo x >> {tmp_path}/ran")
    program = background.begin(["run", "-q", "--driver", "process"], repository, home)
    until((tmp_path / "going").exists, "job")
    fill(small_disk)
    (tmp_path / "go").touch()
    _, err = program.communicate(timeout=60)
    assert program.returncode == 0, err
    assert [row["status"] for row in json.loads(run_cli(["runs", "--json"], repository, home).out)] == ["success"]


@pytest.mark.root
def test_disk_too_full_for_any_record_stops_the_program_and_resume_goes_on(
    tmp_path: Path, small_disk: Path, background: Programs
) -> None:
    """State that can't be written ends the command with a clear error; with room again, the run is carried on."""
    home = small_disk / "home"
    repository = waiting_job(tmp_path, f"echo x >> {tmp_path}/ran")
    program = background.begin(["run", "-q", "--driver", "process"], repository, home)
    until((tmp_path / "going").exists, "job")
    (home / "stretto.db.reserve").unlink()
    filler = fill(small_disk)
    (tmp_path / "go").touch()
    _, err = program.communicate(timeout=60)
    assert program.returncode == 1, err
    assert b"no room left on the disk" in err
    assert b"stretto gc" in err
    filler.unlink()
    resumed = run_cli(["resume", "1", "--json", "-q"], repository, home)
    assert resumed.code == 0, resumed.err
    assert (tmp_path / "ran").read_text() == "x\n"


# -------------------------------------------------------------------------------------------------------------- trees


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A place whose `sealed` directory can only be read once `seal` was called."""
    yield tmp_path / "sealed"
    subprocess.run(["umount", "-l", tmp_path / "sealed"], check=False, timeout=10, stderr=subprocess.DEVNULL)


def seal(path: Path) -> None:
    """Make a directory read-only, for root too."""
    subprocess.run(["mount", "--bind", path, path], check=True, timeout=10)
    subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True, timeout=10)


@pytest.mark.root
def test_read_only_repository_runs(home: Path, read_only: Path) -> None:
    """Nothing is written to the repository; the job writes to a tree of its own, even over files without permission."""
    script = ["rm pipeline.yml", "mkdir -p a/b", "touch a/b/c", "chmod -R a-w .", "chmod 0 a/b"]
    repository = one_job(read_only, script)
    (repository / "pipeline.yml").chmod(0o444)
    seal(repository)
    done = run_cli(IN_PROCESS, repository, home)
    assert done.code == 0, done.err
    assert not list((home / "attempts").iterdir())


@pytest.mark.root
@pytest.mark.parametrize("used_before", [False, True])
def test_read_only_home_is_a_clear_error(tmp_path: Path, read_only: Path, used_before: bool) -> None:
    """Where no state can be kept nothing runs, and the error names the place."""
    repository = one_job(tmp_path / "repo", "true")
    read_only.mkdir()
    if used_before:
        assert run_cli(IN_PROCESS, repository, read_only / "home").code == 0
    seal(read_only)
    done = run_cli(["run", "--driver", "process"], repository, read_only / "home")
    assert done.code in (2, 3)
    assert str(read_only / "home") in done.err
    assert "Traceback" not in done.err
    assert "bug" not in done.err


# ------------------------------------------------------------------------------------------------------------- output


MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
sys.exit(code)
"""
"""Runs a command and prints its peak memory. A process of its own, small: what a process has before `exec` counts as its peak."""


def repeated_digest(line: bytes, size: int) -> str:
    """Return the SHA-256 of the first `size` bytes of `line` again and again."""
    digest, block = hashlib.sha256(), line * 10_000
    for start in range(0, size, len(block)):
        digest.update(block[: size - start])
    return digest.hexdigest()


def output_digest(home: Path, job: str) -> str:
    """Return the SHA-256 of what the job of run 1 printed."""
    command = [PROGRAM, "logs", "1", job]
    with subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        digest = hashlib.file_digest(program.stdout, "sha256").hexdigest()
    assert program.returncode == 0
    return digest


DRIVERS = [pytest.param("docker", marks=pytest.mark.docker), "process"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_output_of_100_mb_is_complete_and_costs_no_memory(
    tmp_path: Path, home: Path, driver: str, request: pytest.FixtureRequest
) -> None:
    """Every byte is kept, by a program that never has much of it at once."""
    image = request.getfixturevalue("image") if driver == "docker" else "none:1"
    line, size = b"0123456789 abcdefghijklmnopqrstuvwxyz\n", 100_000_000
    repository = one_job(tmp_path / "repo", f"yes '{line.decode().strip()}' | head -c {size}", image=image)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, PROGRAM, "run", "-q", "--driver", driver],
        cwd=repository,
        env=environment(home),
        capture_output=True,
        timeout=100,
        check=True,
    )
    assert int(run.stdout.splitlines()[-1]) < 200 * MIB
    assert output_digest(home, "work") == repeated_digest(line, size)


@pytest.mark.parametrize("driver", DRIVERS)
def test_output_that_is_no_text_is_kept_byte_for_byte(
    tmp_path: Path, home: Path, driver: str, request: pytest.FixtureRequest
) -> None:
    """Bytes of every value, in no encoding, come out as they went in, and the end of a failed job's output can be shown."""
    image = request.getfixturevalue("image") if driver == "docker" else "none:1"
    repository = one_job(tmp_path / "repo", ["cat bytes", "exit 1"], image=image)
    data = bytes(range(256)) * 40 + b"\xc3\n\xff\xfe\r\n\xed\xa0\x80"
    (repository / "bytes").write_bytes(data)
    subprocess.run(["git", "-C", repository, "add", "bytes"], check=True, timeout=10)
    done = run_cli(["run", "--driver", driver, "--working-tree"], repository, home)
    assert done.code == 1, done.err
    assert "\\xff" in done.out or "\N{REPLACEMENT CHARACTER}" in done.out
    assert output_digest(home, "work") == hashlib.sha256(data).hexdigest()
    report = run_cli(["report", "1", "--json"], repository, home).report
    assert jobs_of(report)["work"]["reason"] == "exit_code"
