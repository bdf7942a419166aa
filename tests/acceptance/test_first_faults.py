"""What the first implementation got wrong, one test each: sixteen faults that this one must not have."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stretto.core.run import Changes, Run
from stretto.core.states import FINAL
from stretto.engine.recovery import replay
from stretto.store import rows
from tests.support.background import Programs, until
from tests.support.cli import PROGRAM, environment, jobs_of, run_cli
from tests.support.images import engine_call
from tests.support.repository import git, make_repository

JOB = {"stage": "test", "script": "true"}


def one_pipeline(path: Path, jobs: dict[str, Any], **more: Any) -> Path:
    """Make a repository whose pipeline.yml has these jobs; JSON is YAML."""
    return make_repository(path, {"pipeline.yml": json.dumps({"name": "app", "jobs": jobs, **more})})


def run_in_process(repository: Path, home: Path) -> dict[str, Any]:
    """Run the pipeline in processes and return the report."""
    return run_cli(["run", "--json", "-q", "--driver", "process"], repository, home).report


def output(home: Path, run: int, job: str) -> bytes:
    """Return what the job printed, byte for byte."""
    command = [PROGRAM, "logs", str(run), job]
    return subprocess.run(command, env=environment(home), capture_output=True, check=True, timeout=30).stdout


def containers(home: Path) -> list[dict[str, Any]]:
    """Return the containers of this home, ended ones too."""
    installation = home / "installation"
    if not installation.exists():
        return []
    label = f"dev.stretto.installation={installation.read_text().strip()}"
    found: list[dict[str, Any]] = engine_call("GET", f'/containers/json?all=1&filters={{"label":["{label}"]}}')[1]
    return found


def test_default_stages_have_the_same_order_in_every_process(tmp_path: Path, home: Path) -> None:
    """Fault 1: the default stages were a set, so that their order changed with the process's hash seed."""
    stages = ["deploy", "doc", "test", "build"]
    repository = one_pipeline(tmp_path / "repo", {f"of-{stage}": {**JOB, "stage": stage} for stage in stages})
    for seed in range(1, 5):
        planned = run_cli(
            ["plan", "--json", "--driver", "process"], repository, home, variables={"PYTHONHASHSEED": str(seed)}
        )
        [plan] = json.loads(planned.out)
        assert plan["stages"] == ["build", "test", "doc", "deploy"]
        assert plan["levels"] == [["of-build"], ["of-test"], ["of-doc"], ["of-deploy"]]


def test_chain_of_needs_ends_when_its_first_job_fails(tmp_path: Path, anywhere: Path) -> None:
    """Fault 2: with a -> b -> c in one stage the run hung for ever when a failed."""
    jobs = {
        "a": {**JOB, "script": "exit 3", "allow_failure": True},
        "b": {**JOB, "needs": ["a"]},
        "c": {**JOB, "needs": ["b"]},
    }
    report = run_in_process(one_pipeline(tmp_path / "repo", jobs), anywhere)
    assert report["run"]["status"] == "failed"
    ended = {name: (job["status"], job["reason"]) for name, job in jobs_of(report).items()}
    assert ended == {
        "a": ("failed", "exit_code"),
        "b": ("skipped", "needs_failed"),
        "c": ("skipped", "needs_failed"),
    }


@pytest.mark.docker
def test_lines_with_quotes_run_as_they_are_written(tmp_path: Path, home: Path, image: str) -> None:
    """Fault 3: lines were joined within quotes, so that of `echo 'hello world'` and `touch x` only `echo hello` ran."""
    lines = [
        "echo 'hello world'",
        "touch x",
        'echo "it\'s  \\"$(ls x)\\""',
        "# && nothing",
        "echo a | tr a b; echo '&&'",
    ]
    jobs = {
        "whole": {**JOB, "script": lines},
        "stops": {**JOB, "script": ["echo 'on\"e'", "false", "echo two"], "allow_failure": True},
    }
    repository = one_pipeline(tmp_path / "repo", jobs, default={"image": image})
    report = run_cli(["run", "--json", "-q"], repository, home).report
    assert {name: job["status"] for name, job in jobs_of(report).items()} == {"whole": "success", "stops": "failed"}
    assert output(home, 1, "whole") == b'hello world\nit\'s  "x"\nb\n&&\n'
    assert output(home, 1, "stops") == b'on"e\n'


def test_script_that_is_one_string_runs_as_a_whole(tmp_path: Path, anywhere: Path) -> None:
    """Fault 4: a script that was one string was run character by character."""
    repository = one_pipeline(tmp_path / "repo", {"say": {**JOB, "script": "word=whole\necho $word\n"}})
    assert run_in_process(repository, anywhere)["run"]["status"] == "success"
    assert output(anywhere, 1, "say") == b"whole\n"


@pytest.mark.docker
def test_cancel_stops_the_container(tmp_path: Path, home: Path, image: str, background: Programs) -> None:
    """Fault 5: cancel changed rows only; the container went on, and the job ended as a success."""
    repository = one_pipeline(
        tmp_path / "repo", {"long": {**JOB, "script": ["echo begun", "sleep 600"]}}, default={"image": image}
    )
    program = background.begin(["run", "-q"], repository, home)
    until(lambda: [one for one in containers(home) if one["State"] == "running"], "running container")
    until(lambda: run_cli(["logs", "latest", "long"], repository, home).out == "begun\n", "output of the job")
    canceled = run_cli(["cancel", "latest", "--wait"], repository, home)
    assert (canceled.code, canceled.out) == (0, "run 1: canceled\n")
    program.communicate(timeout=60)
    assert program.returncode == 4
    job = jobs_of(run_cli(["report", "1", "--json"], repository, home).report)["long"]
    assert (job["status"], job["reason"]) == ("canceled", "cancel_requested")
    assert containers(home) == []


class Barrier:
    """Lets clients of a port on loopback go on when there are as many of them as were waited for."""

    def __init__(self, parties: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(90)
        self.port = self._socket.getsockname()[1]
        self._parties = parties
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        met: list[socket.socket] = []
        try:
            while len(met) < self._parties:
                met.append(self._socket.accept()[0])
            for one in met:
                one.sendall(b"met\n")
        except OSError:
            pass  # closed, or nobody came
        for one in met:
            one.close()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture
def barrier() -> Iterator[Barrier]:
    """A barrier for two."""
    barrier = Barrier(2)
    yield barrier
    barrier.close()


@pytest.mark.docker
def test_concurrent_runs_of_one_repository_do_not_collide(
    tmp_path: Path, home: Path, image: str, background: Programs, barrier: Barrier
) -> None:
    """Fault 6: names of containers and the checkout were global, so that two runs at once destroyed each other."""
    script = [
        "test ! -e who",
        "echo $STRETTO_RUN_NUMBER > who",
        f'test "$(nc -w 60 127.0.0.1 {barrier.port} < /dev/null)" = met',
        'test "$(cat who)" = $STRETTO_RUN_NUMBER',
        "cat who",
    ]
    repository = one_pipeline(tmp_path / "repo", {"same": {**JOB, "script": script}}, default={"image": image})
    variables = {"STRETTO_DOCKER_NETWORK": "host"}
    both = [
        background.begin(["run", "--json", "-q"], repository, home, variables=variables),
        background.begin(["run", "--json", "-q", str(repository)], tmp_path, home, variables=variables),
    ]
    reports = [json.loads(program.communicate(timeout=90)[0]) for program in both]
    assert {report["run"]["number"] for report in reports} == {1, 2}
    for report in reports:
        assert report["run"]["status"] == "success"
        number = report["run"]["number"]
        assert output(home, number, "same") == f"{number}\n".encode()


def test_failed_pipeline_gives_exit_code_1(tmp_path: Path, anywhere: Path) -> None:
    """Fault 7: a failed pipeline answered with exit code 0."""
    fails = one_pipeline(tmp_path / "fails", {"job": {**JOB, "script": "exit 9"}})
    works = one_pipeline(tmp_path / "works", {"job": JOB})
    assert run_cli(["run", "--driver", "process"], fails, anywhere).code == 1
    assert run_cli(["run", "--driver", "process"], works, anywhere).code == 0


def test_times_are_utc_wherever_the_program_runs(tmp_path: Path, anywhere: Path) -> None:
    """Fault 8: times were stored in one hard-coded zone."""
    repository = one_pipeline(tmp_path / "repo", {"job": JOB})
    for zone in ("EAST-14", "WEST+11"):
        before = datetime.now(UTC).replace(microsecond=0)
        done = run_cli(["run", "--json", "-q", "--driver", "process"], repository, anywhere, variables={"TZ": zone})
        after = datetime.now(UTC)
        job = jobs_of(done.report)["job"]
        for text in (*(done.report["run"][f"{what}_at"] for what in ("created", "started", "ended")), job["ended_at"]):
            assert text.endswith("Z")
            assert before <= datetime.fromisoformat(text) <= after
        elsewhere = run_cli(["report", "latest", "--json"], repository, anywhere, variables={"TZ": "EAST-5"}).report
        assert elsewhere["run"] == done.report["run"]


def test_cancel_of_the_latest_run_is_not_misled_by_finished_ones(
    tmp_path: Path, anywhere: Path, background: Programs
) -> None:
    """Fault 9: cancel without a number matched finished runs too, and refused for their sake."""
    finished = one_pipeline(tmp_path / "finished", {"job": JOB})
    running = one_pipeline(tmp_path / "running", {"job": {**JOB, "script": f"touch {tmp_path}/going; sleep 600"}})
    for _ in range(2):
        assert run_in_process(finished, anywhere)["run"]["status"] == "success"
    program = background.begin(["run", "-q", "--driver", "process"], running, anywhere)
    until((tmp_path / "going").exists, "job")
    assert run_cli(["cancel", "latest", "--wait"], tmp_path, anywhere).out == "run 3: canceled\n"
    program.communicate(timeout=60)
    for run, status in (("latest", "run 3 is over already: canceled"), ("1", "run 1 is over already: success")):
        refused = run_cli(["cancel", run], tmp_path, anywhere)
        assert refused.code == 2
        assert status in refused.err


def test_output_stays_with_the_job_that_wrote_it(tmp_path: Path, anywhere: Path) -> None:
    """Fault 10: log lines of earlier requests leaked into later answers."""
    pipelines = {
        f".cicd-pipelines/{name}.yml": json.dumps(
            {"name": name, "jobs": {job: {**JOB, "script": f"echo {name} {job}"} for job in ("one", "two")}}
        )
        for name in ("a", "b")
    }
    repository = make_repository(tmp_path / "repo", pipelines)
    command = ["run", "--json", "-q", "--driver", "process"]
    assert run_cli([*command, "-p", "a", "-p", "b"], repository, anywhere).code == 0
    assert run_cli([*command, "-p", "a"], repository, anywhere).report["run"]["number"] == 3
    for number, name in ((1, "a"), (2, "b"), (3, "a")):
        for job in ("one", "two"):
            assert output(anywhere, number, job) == f"{name} {job}\n".encode()


def stored(home: Path, run: int) -> tuple[Run, list[tuple[Any, ...]], list[tuple[Any, ...]], tuple[Any, ...]]:
    """Return the fold of a run's events, and as they are stored its jobs, its attempts and the rest of its row."""
    with closing(sqlite3.connect(home / "stretto.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        body, identity = database.execute(
            "SELECT body, id FROM spec JOIN run ON number = run WHERE run = ?", (run,)
        ).fetchone()
        events = database.execute("SELECT kind, at, body FROM event WHERE run = ? ORDER BY seq", (run,)).fetchall()
        jobs = database.execute(
            "SELECT status, reason, message, exit_code, started_at, ended_at, job FROM job WHERE run = ? ORDER BY job",
            (run,),
        ).fetchall()
        attempts = database.execute(
            "SELECT job, number, status, started_at, ended_at FROM attempt WHERE run = ? ORDER BY job, number", (run,)
        ).fetchall()
        row = database.execute(
            "SELECT status, reason, message, started_at, ended_at, seq FROM run WHERE number = ?", (run,)
        ).fetchone()
    folded = replay(identity, rows.read_spec(body), tuple(rows.read_event(*event) for event in events))
    assert row[-1] == len(events)
    return folded, jobs, attempts, row[:-1]


def has_events(home: Path, wanted: int) -> bool:
    """Say whether at least so many events are on disk."""
    if not (home / "stretto.db").exists():
        return False
    try:
        with closing(sqlite3.connect(home / "stretto.db")) as database:
            return bool(database.execute("SELECT count(*) FROM event").fetchone()[0] >= wanted)
    except sqlite3.OperationalError:  # its tables are being made
        return False


def test_rows_agree_with_the_events_after_every_kill(tmp_path: Path, home: Path, background: Programs) -> None:
    """Fault 11: "transactions" used several connections, so that a crash left rows that disagreed."""
    jobs = {f"j{i}": {**JOB, "script": "sleep 0.05", "needs": [f"j{i - 3}"] if i > 2 else []} for i in range(60)}
    repository = one_pipeline(tmp_path / "repo", jobs)
    program = background.begin(["run", "-q", "--driver", "process", "--jobs", "3"], repository, home)
    for number in range(1, 6):
        until(functools.partial(has_events, home, 14 * number), "progress")
        program.send_signal(signal.SIGKILL)
        program.communicate()
        assert program.returncode == -signal.SIGKILL, "the run was over too early"
        run, job_rows, attempt_rows, row = stored(home, 1)
        changes = Changes(run, tuple(run.jobs), True)
        assert job_rows == rows.changed_jobs(changes)
        assert row == rows.run_state(changes)
        assert attempt_rows == [
            (job.index, one.number, one.status, *(at and rows.micros(at) for at in (one.started_at, one.ended_at)))
            for job in run.jobs
            for one in job.attempts
        ]
        program = background.begin(["resume", "1", "-q"], repository, home)
    assert program.wait(timeout=60) == 0
    assert all(job.status in FINAL for job in stored(home, 1)[0].jobs)


@pytest.mark.parametrize("end", ["resume", "cancel"])
def test_crash_leaves_nothing_running_for_ever(tmp_path: Path, home: Path, background: Programs, end: str) -> None:
    """Fault 12: a crash left rows `running` that nothing ever ended."""
    script = f"touch {tmp_path}/going; until test -e {tmp_path}/go; do sleep 0.05; done"
    repository = one_pipeline(
        tmp_path / "repo", {"long": {**JOB, "script": script}, "next": {**JOB, "needs": ["long"]}}
    )
    program = background.begin(["run", "-q", "--driver", "process"], repository, home)
    until((tmp_path / "going").exists, "job")
    program.kill()
    program.communicate()
    if end == "resume":
        (tmp_path / "go").touch()
    ended = run_cli([end, "1"], tmp_path, home)
    assert ended.code == 0, ended.err
    report = run_cli(["report", "1", "--json"], tmp_path, home).report
    assert report["run"]["status"] == {"resume": "success", "cancel": "canceled"}[end]
    with closing(sqlite3.connect(home / "stretto.db")) as database:
        for table in ("run", "job", "attempt"):
            found = {status for (status,) in database.execute(f"SELECT status FROM {table}")}
            assert found <= FINAL, table


def facts(tree: Path) -> dict[str, tuple[int, ...]]:
    """Return owner, mode, size and time of change of everything in a tree."""
    return {
        str(path): (found.st_uid, found.st_gid, found.st_mode, found.st_size, found.st_mtime_ns)
        for path in [tree, *tree.rglob("*")]
        for found in [path.lstat()]
    }


@pytest.mark.docker
def test_job_sees_the_whole_tree_and_leaves_it_alone(tmp_path: Path, home: Path, image: str) -> None:
    """Fault 13: a mount hid the repository's own docs/, and files owned by root were left that could not be deleted."""
    script = [
        "cat docs/guide.md",
        "echo changed > docs/guide.md",
        "mkdir -m 700 build docs/more",
        "touch build/made docs/more/made",
        "rm pipeline.yml",
    ]
    pipeline = {
        "name": "app",
        "default": {"image": image},
        "jobs": {"job": {**JOB, "script": script, "artifacts": {"paths": ["build"]}}},
    }
    repository = make_repository(
        tmp_path / "repo", {"pipeline.yml": json.dumps(pipeline), "docs/guide.md": "the guide\n"}
    )
    variables = {"GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig")}
    if os.geteuid() == 0:  # then a file of root would not be noticed among the person's own
        for path in [repository, *repository.rglob("*")]:
            os.chown(path, 1000, 1000)
        (tmp_path / "gitconfig").write_text("[safe]\n\tdirectory = *\n")
    before = facts(repository)
    done = run_cli(["run", "-q"], repository, home, variables=variables)
    assert done.code == 0, done.err
    assert output(home, 1, "job") == b"the guide\n"
    assert facts(repository) == before
    assert not list((home / "attempts").iterdir())
    for path in [home, *home.rglob("*")]:  # files of a mirror are links to the repository's own
        assert not path.is_dir() or path.lstat().st_uid == os.geteuid(), path
    shutil.rmtree(home)


def test_repositories_of_every_kind_are_accepted(tmp_path: Path, home: Path) -> None:
    """Fault 14: private, ssh and worktree repositories were refused; only anonymous http served."""
    origin = one_pipeline(tmp_path / "origin", {"job": {**JOB, "script": "git log -1 --format=%s"}})
    git(origin, "worktree", "add", "--quiet", "-b", "side", str(tmp_path / "worktree"))
    git(tmp_path, "clone", "--quiet", "--bare", str(origin), str(tmp_path / "bare.git"))
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\n# What sshd does at the other end: the last argument is the command.\n'
                   f'echo "$@" >> {tmp_path}/calls\nfor last; do :; done\nexec sh -c "$last"\n')  # fmt: skip
    ssh.chmod(0o755)
    variables = {"GIT_SSH_COMMAND": str(ssh), "GIT_SSH_VARIANT": "ssh"}
    addresses = [
        str(origin),
        str(tmp_path / "worktree"),
        str(tmp_path / "bare.git"),
        f"file://{origin}",
        f"ssh://git@example.org:2222{tmp_path}/bare.git",
        f"git@example.org:{tmp_path}/bare.git",
    ]
    for number, address in enumerate(addresses, 1):
        done = run_cli(["run", "--json", "-q", "--driver", "process", address], tmp_path, home, variables=variables)
        assert done.code == 0, f"{address}: {done.err}"
        assert output(home, number, "job") == b"Add everything\n"
    calls = (tmp_path / "calls").read_text()
    assert "-p 2222 git@example.org" in calls
    assert re.search(r"GIT_PROTOCOL git@example.org git-upload-pack", calls)


@pytest.mark.parametrize(
    ("pipeline", "place", "rule"),
    [
        ("", "1:1", "empty-file"),
        ("name: x\njobs:\n  a:\n  b: {stage: test, script: x}\n", "3:3", "null-job"),
        ("name: x\njobs:\n  a: {stage: test, script: x, artifacts: {}}\n", "3:42", "missing-key"),
    ],
    ids=["empty file", "null job", "artifacts without paths"],
)
def test_half_written_file_is_answered_with_the_place(
    tmp_path: Path, anywhere: Path, pipeline: str, place: str, rule: str
) -> None:
    """Fault 15: an empty file, a null job and artifacts without paths ended in an internal error."""
    repository = make_repository(tmp_path / "repo", {"pipeline.yml": pipeline})
    for command in ("check", "plan", "run"):
        done = run_cli([command, "--driver", "process"], repository, anywhere)
        assert done.code == 2
        assert f"pipeline.yml:{place}: {rule}: " in done.out + done.err


def test_paths_out_of_the_repository_are_refused(tmp_path: Path, anywhere: Path) -> None:
    """Fault 16: paths on the server were taken from the caller, and nothing was kept from others."""
    (tmp_path / "outside.yml").write_text(json.dumps({"name": "outside", "jobs": {"job": JOB}}))
    repository = one_pipeline(tmp_path / "repo", {"job": JOB})
    (repository / "link.yml").symlink_to(tmp_path / "outside.yml")
    (repository / "linked").symlink_to(tmp_path)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "Link")
    for words in (
        ["-f", "../outside.yml"],
        ["-f", str(tmp_path / "outside.yml")],
        ["-f", "link.yml"],
        ["-f", "linked/outside.yml"],
        ["--set", "jobs.job.artifacts.paths=[../secret]"],
        ["--set", "jobs.job.artifacts.paths=[/etc/passwd]"],
        ["--set", "jobs.job.working_directory=../.."],
    ):
        done = run_cli(["run", "--driver", "process", *words], repository, anywhere)
        assert done.code == 2, words
        assert done.err
    assert run_cli(["runs", "--json"], repository, anywhere).out == "[]\n"
    worked = Path(os.environ.get("STRETTO_TEST_STATE", anywhere))
    assert stat.S_IMODE(worked.stat().st_mode) == 0o700
    assert run_cli(["run", "-q", "--driver", "process"], repository, anywhere).code == 0
