"""The real program as a person uses it: processes, pipes, signals, a terminal. Jobs run in the driver `process`.

All of it twice: where the command does the work itself, and where a server does.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import PROGRAM, environment, jobs_of, run_cli

DEADLINE_S = 30.0


@pytest.fixture
def home(anywhere: Path) -> Path:
    """A home of its own, not made yet; and, half of the time, a server that commands talk to."""
    return anywhere


def at_server() -> bool:
    """Say whether commands talk to a server."""
    return "STRETTO_SERVER" in os.environ


def traces(home: Path) -> list[Path]:
    """Return what was kept of repositories and attempts, wherever the work was done."""
    place = Path(os.environ.get("STRETTO_TEST_STATE", home))
    return [
        path for name in ("checkouts", "attempts", "mirrors") for path in (place / name).rglob("*") if path.is_file()
    ]


def repository(path: Path, pipeline: str) -> Path:
    """Make a repository with this pipeline.yml."""
    path.mkdir()
    (path / "pipeline.yml").write_text(pipeline)
    for words in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        ["-c", "user.name=T", "-c", "user.email=t@e", "commit", "-qm", "First"],
    ):
        subprocess.run(["git", *words], cwd=path, check=True)
    return path


def one_job(tmp_path: Path, script: str) -> Path:
    """Make a repository whose only job, `work`, runs this script."""
    return repository(
        tmp_path / "repo", json.dumps({"name": "one", "jobs": {"work": {"stage": "test", "script": script}}})
    )


def until(condition: object, what: str) -> None:
    """Wait until `condition()` holds."""
    end = time.monotonic() + DEADLINE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, f"no {what} within {DEADLINE_S} s"
        time.sleep(0.05)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are killed at the end if they are still there."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def begin(started: list[subprocess.Popen[bytes]], repo: Path, home: Path) -> subprocess.Popen[bytes]:
    """Start `stretto run` and return when its job has made the file `going` and the command knows that it runs."""
    process = subprocess.Popen(
        [PROGRAM, "run", "--driver", "process"],
        cwd=repo,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    started.append(process)
    until((repo.parent / "going").exists, "job")
    assert process.stdout is not None
    while b"running" not in process.stdout.readline():
        assert process.poll() is None
    return process


def long_job(tmp_path: Path, before: str = "") -> Path:
    """Make a repository whose job says that it is going and ends when the file `go` is there."""
    return one_job(
        tmp_path,
        f"{before} touch {tmp_path}/going; until test -e {tmp_path}/go; do sleep 0.1; done; echo x >> {tmp_path}/ran",
    )


def test_run_prints_plain_lines_in_a_pipe(tmp_path: Path, home: Path) -> None:
    """No escape sequence, one line per change with the time, the result last, exit code 0."""
    done = run_cli(["run", "--driver", "process"], one_job(tmp_path, "echo hi"), home)
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    assert re.search(r"^ +\d+\.\d s  test / work  running$", done.out, re.MULTILINE)
    assert re.search(r"^✓ Run 1 of one: success$", done.out, re.MULTILINE)


def test_run_with_json_prints_one_report(tmp_path: Path, home: Path) -> None:
    """stdout is one JSON document; progress is on stderr."""
    done = run_cli(["--json", "run", "--driver", "process"], one_job(tmp_path, "exit 7"), home)
    assert done.code == 1
    assert jobs_of(done.report)["work"]["exit_code"] == 7
    assert "test / work" in done.err


def test_run_shows_the_end_of_a_failed_jobs_output(tmp_path: Path, home: Path) -> None:
    """Of 30 lines the last 20 are shown, harmless, with the command for all of them."""
    script = "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line$i; done; printf '\\033[2Jboom\\007\\n'; exit 1"
    done = run_cli(["run", "--driver", "process"], one_job(tmp_path, script), home)
    assert done.code == 1
    assert "line11\n" not in done.out
    assert "  | line12\n" in done.out
    assert "  | boom\\x07\n" in done.out
    assert "stretto logs 1 work" in done.out


def test_logs_are_the_bytes_of_the_job(tmp_path: Path, home: Path) -> None:
    """Invalid UTF-8 and control characters come out as they went in; --tail and -t look at lines."""
    repo = one_job(tmp_path, "printf 'a\\n\\377\\033[31m\\r\\nend'")
    assert run_cli(["run", "-q", "--driver", "process"], repo, home).code == 0
    raw = subprocess.run([PROGRAM, "logs", "latest"], env=environment(home), capture_output=True, check=True).stdout
    assert raw == b"a\n\xff\x1b[31m\r\nend"
    tail = subprocess.run(
        [PROGRAM, "logs", "1", "work", "--tail", "1"], env=environment(home), capture_output=True, check=True
    )
    assert tail.stdout == b"end"
    stamped = run_cli(["logs", "1", "-t"], repo, home).out.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z a", stamped[0])


def test_ctrl_c_cancels(tmp_path: Path, home: Path, started: list[subprocess.Popen[bytes]]) -> None:
    """The job is stopped, the run is canceled, the exit code 130."""
    process = begin(started, long_job(tmp_path), home)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert b"Ctrl-C again kills" in out
    assert run_cli(["--json", "report", "1"], tmp_path, home).report["run"]["status"] == "canceled"
    assert not (tmp_path / "ran").exists()


def test_second_ctrl_c_kills(tmp_path: Path, home: Path, started: list[subprocess.Popen[bytes]]) -> None:
    """A job that ignores TERM is gone long before its grace is over."""
    process = begin(started, long_job(tmp_path, "trap '' TERM;"), home)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    while b"Ctrl-C again" not in process.stdout.readline():
        pass
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert time.monotonic() - began < 5, "the grace of 10 s was waited for"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_hands_over_and_resume_carries_on(
    tmp_path: Path, home: Path, started: list[subprocess.Popen[bytes]], number: signal.Signals
) -> None:
    """The job goes on without the program; resume takes it over, and it has run once."""
    process = begin(started, long_job(tmp_path), home)
    process.send_signal(number)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert b"stretto resume 1" in err
    (tmp_path / "go").touch()
    done = run_cli(["resume", "1"], tmp_path, home)
    assert done.code == 0, done.err
    assert (tmp_path / "ran").read_text() == "x\n"
    again = run_cli(["resume", "1", "--json"], tmp_path, home)
    assert again.code == 0
    assert again.report["run"]["status"] == "success"


def test_cancel_from_another_process_ends_the_run(
    tmp_path: Path, home: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    """The process that carries the run ends with 4; a run that is over can't be canceled."""
    process = begin(started, long_job(tmp_path), home)
    done = run_cli(["cancel", "latest", "--wait"], tmp_path, home)
    assert (done.code, done.out) == (0, "run 1: canceled\n")
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 4
    assert run_cli(["cancel", "1"], tmp_path, home).code == 2


def test_detached_run_goes_on_in_the_background(tmp_path: Path, home: Path) -> None:
    """The command prints the number at once; the run ends by itself."""
    repo = long_job(tmp_path)
    done = run_cli(["run", "--driver", "process", "--detach"], repo, home)
    assert (done.code, done.out) == (0, "1\n")
    (tmp_path / "go").touch()
    until(lambda: run_cli(["report", "1", "--json"], repo, home).report["run"]["status"] == "success", "success")
    assert at_server() or "success" in (home / "logs" / "detached" / "run-1.log").read_text()


def test_retry_keeps_what_succeeded(tmp_path: Path, home: Path) -> None:
    """`retry --failed` does the failed job again, `retry` all of them; each is a run of its own, and nothing is left to retry."""
    jobs = {
        "make": {"stage": "build", "script": f"echo m >> {tmp_path}/made"},
        "test": {"stage": "test", "script": f"test -e {tmp_path}/good"},
    }
    repo = repository(tmp_path / "repo", json.dumps({"name": "two", "jobs": jobs}))
    assert run_cli(["run", "-q", "--driver", "process"], repo, home).code == 1
    (tmp_path / "good").touch()
    again = run_cli(["retry", "latest", "--failed", "--json", "-q"], repo, home)
    assert again.code == 0, again.err
    assert again.report["run"]["number"] == 2
    assert {job["status"] for job in jobs_of(again.report).values()} == {"success"}
    assert (tmp_path / "made").read_text() == "m\n"
    assert run_cli(["retry", "1", "-q"], repo, home).code == 0
    assert (tmp_path / "made").read_text() == "m\nm\n"
    assert run_cli(["retry", "2", "--failed"], repo, home).code == 2


def test_time_limit_gives_exit_code_5(tmp_path: Path, home: Path) -> None:
    """A run whose own time limit is reached says so."""
    repo = one_job(tmp_path, "sleep 30")
    assert run_cli(["run", "--driver", "process", "--set", "timeout=1s"], repo, home).code == 5


@pytest.mark.parametrize(
    ("pipeline", "arguments"),
    [
        ("", []),
        ("name: x\njobs: {a: }\n", []),
        ("name: x\nname: y\njobs: {a: {stage: test, script: x}}\n", []),
        ("name: x\njobs: {a: {stage: nowhere, script: x, needs: [b]}}\n", []),
        ("name: x\njobs: {a: {stage: test, script: x}}\n", ["-b", "nowhere"]),
        ("name: x\njobs: {a: {stage: test, script: x}}\n", ["-c", "0123456789"]),
        ("name: x\njobs: {a: {stage: test, script: x}}\n", ["-f", "../pipeline.yml"]),
        ("name: x\njobs: {a: {stage: test, script: x}}\n", ["--var", "1x=2"]),
        ("name: x\njobs: {a: {stage: test, script: x}}\n", ["ext::sh -c true"]),
        ("name: x\njobs: {a: {stage: test, script: x}}\n", ["--", "-u"]),
    ],
)
def test_bad_input_leaves_no_trace(tmp_path: Path, home: Path, pipeline: str, arguments: list[str]) -> None:
    """Exit code 2, an error on stderr, no run, no tree, no attempt."""
    done = run_cli(["run", "--driver", "process", *arguments], repository(tmp_path / "repo", pipeline), home)
    assert done.code == 2, done.err
    assert done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert run_cli(["runs", "--json"], tmp_path, home).out == "[]\n"
    assert traces(home) == []


def test_faults_are_json_on_request(tmp_path: Path, home: Path) -> None:
    """`check --json` gives the faults on stdout; `run --json` gives them with its error on stderr."""
    repo = repository(tmp_path / "repo", "name: x\njobs: {a: {stage: nowhere, script: x, sript: y}}\n")
    checked = run_cli(["check", "--json", "--driver", "process"], repo, home)
    assert checked.code == 2
    assert {fault["line"] for fault in json.loads(checked.out)} == {2}
    ran = run_cli(["run", "--json", "--driver", "process"], repo, home)
    assert json.loads(ran.err)["error"]["faults"] == json.loads(checked.out)
    assert not home.exists() or run_cli(["runs", "--json"], repo, home).out == "[]\n"


def test_broken_pipe_is_no_traceback(tmp_path: Path, home: Path) -> None:
    """A reader that goes away ends the command in silence."""
    repo = one_job(tmp_path, "seq 200000")
    assert run_cli(["run", "-q", "--driver", "process"], repo, home).code == 0
    words = f"{PROGRAM} logs 1 | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", words], env=environment(home), capture_output=True, check=False, timeout=DEADLINE_S
    )
    assert (done.returncode, done.stdout, done.stderr) == (141, b"1\n", b"")


def test_artifacts_are_downloaded_with_their_modes(tmp_path: Path, home: Path) -> None:
    """Files come out under their job's name; a link in the way is refused."""
    pipeline = {
        "name": "x",
        "jobs": {"make": {"stage": "build", "script": "echo a > a; chmod +x a", "artifacts": {"paths": ["a"]}}},
    }
    repo = repository(tmp_path / "repo", json.dumps(pipeline))
    assert run_cli(["run", "-q", "--driver", "process"], repo, home).code == 0
    out = tmp_path / "out"
    assert run_cli(["artifacts", "1", "--download", out], repo, home).code == 0
    assert (out / "make" / "a").read_text() == "a\n"
    assert os.access(out / "make" / "a", os.X_OK)
    other = tmp_path / "other"
    other.mkdir()
    (other / "make").symlink_to(out)
    assert run_cli(["artifacts", "1", "--download", other], repo, home).code == 2


def test_terminal_shows_the_live_picture_and_is_left_as_it_was(tmp_path: Path, home: Path) -> None:
    """On a terminal the picture is drawn in place, then the cursor is shown again and the modes are as before."""
    repo = one_job(tmp_path, "echo working; sleep 0.5")
    leader, follower = pty.openpty()
    before = termios.tcgetattr(follower)
    env = {**environment(home), "TERM": "xterm-256color"}
    env.pop("NO_COLOR")
    process = subprocess.Popen(
        [PROGRAM, "run", "--driver", "process"], cwd=repo, env=env, stdin=follower, stdout=follower, stderr=follower
    )
    shown = b""
    while process.poll() is None:
        os.set_blocking(leader, False)
        try:
            shown += os.read(leader, 65536)
        except BlockingIOError:
            time.sleep(0.02)
    try:
        shown += os.read(leader, 65536)
    except (BlockingIOError, OSError):
        pass
    assert process.returncode == 0
    assert termios.tcgetattr(follower) == before
    os.close(leader)
    os.close(follower)
    assert b"\x1b[?25l" in shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    assert b"working" in shown
    assert b"Ctrl-C cancels" in shown
    assert b"Run 1 of one" in shown[shown.rindex(b"\x1b[?25h") :]
