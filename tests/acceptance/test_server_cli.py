"""What only the command line against a server has: trees that are sent, servers that are found, servers that go away."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.support.background import Programs, end_attempts, until
from tests.support.cli import Result, run_cli
from tests.support.repository import commit, git, make_repository
from tests.support.server import Server, serving

RUN = ["run", "--json", "-q", "--driver", "process"]


def pipeline(script: str, **job: object) -> str:
    """Return a definition whose only job, `work`, runs the script."""
    return json.dumps({"name": "one", "jobs": {"work": {"stage": "test", "script": script, **job}}})


def at(server: Server, arguments: list[str | Path], cwd: Path, home: Path, **more: str) -> Result:
    """Run a command that talks to the server."""
    return run_cli(arguments, cwd, home, variables={**server.variables, **more})


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        port: int = it.getsockname()[1]
        return port


def test_tree_that_is_not_pushed_runs_as_what_it_is(tmp_path: Path, home: Path) -> None:
    """Its job sees commit, branch, files and a clean tree; the report has the name that others know it by."""
    script = (
        'echo "$STRETTO_COMMIT"; git rev-parse HEAD; git log --format=%s; git status --porcelain; cat data; ls -l tool'
    )
    repository = make_repository(
        tmp_path / "repo", {"pipeline.yml": pipeline(script), "data": "first\n", "tool": "#!/bin/sh\n"}
    )
    git(repository, "remote", "add", "origin", "https://ann:secret@example.org/team/app.git")
    (repository / "data").write_text("second\n")
    head = commit(repository, "Change the data")
    git(repository, "checkout", "--quiet", "-b", "topic")
    with serving(tmp_path / "server") as server:
        done = at(server, [*RUN], repository, home)
        assert done.code == 0, done.err
        output = at(server, ["logs", "1"], repository, home).out.splitlines()
        listed = json.loads(at(server, ["runs", "--json", "--repository", "."], repository, home).out)
    assert output[:4] == [head, head, "Change the data", "second"]
    assert output[4].startswith("-rwx")
    run = done.report["run"]
    assert (run["repository"], run["branch"]) == ("https://example.org/team/app.git", "topic")
    assert (run["commit"], run["commit_message"]) == (head, "Change the data")
    assert [row["number"] for row in listed] == [1]
    assert "secret" not in "".join(path.read_text() for path in (tmp_path / "server").rglob("*.log"))


def test_working_tree_is_sent_with_what_is_not_committed(tmp_path: Path, home: Path) -> None:
    """Changed, new and deleted files are there as they are; the repository is left alone; without the option one line tells."""
    script = "cat changed fresh; test ! -e gone"
    repository = make_repository(
        tmp_path / "repo", {"pipeline.yml": pipeline(script), "changed": "old\n", "gone": "x\n", "fresh": "committed\n"}
    )
    (repository / "changed").write_text("new\n")
    git(repository, "rm", "--quiet", "--cached", "fresh")
    (repository / "fresh").write_text("untracked\n")
    (repository / "gone").unlink()
    before = git(repository, "status", "--porcelain")
    with serving(tmp_path / "server") as server:
        plain = at(server, ["run", "--driver", "process"], repository, home)
        assert plain.code == 1
        assert "changes that are not part of the run" in plain.out
        done = at(server, [*RUN, "--working-tree"], repository, home)
        assert done.code == 0, done.err
        assert at(server, ["logs", "latest"], repository, home).out == "new\nuntracked\n"
    assert done.report["run"]["branch"] == "main"
    assert git(repository, "status", "--porcelain") == before


def test_server_over_the_same_home_does_the_work(tmp_path: Path, home: Path) -> None:
    """Without a word about it commands talk to it while it is there, and do the work themselves when it is gone."""
    repository = make_repository(tmp_path / "repo", {"pipeline.yml": pipeline("true")})
    with serving(home):
        detached = run_cli(["run", "--driver", "process", "--detach"], repository, home)
        assert (detached.code, detached.out) == (0, "1\n")
        assert "at the server" in detached.err
        assert run_cli(["resume", "1", "-q"], repository, home).code == 0
    assert run_cli([*RUN], repository, home).report["run"]["number"] == 2
    assert [row["number"] for row in json.loads(run_cli(["runs", "--json"], repository, home).out)] == [2, 1]


@pytest.mark.parametrize(
    ("scope", "code", "words"), [("read", 2, "needs a token of scope run"), ("none", 2, "token is not valid")]
)
def test_token_that_does_not_allow_it_is_told(tmp_path: Path, home: Path, scope: str, code: int, words: str) -> None:
    """Exit code 2, nothing done."""
    repository = make_repository(tmp_path / "repo", {"pipeline.yml": pipeline("true")})
    with serving(tmp_path / "server") as server:
        token = "stretto_000000000000_" + "0" * 64
        if scope != "none":
            token = run_cli(["token", "create", "ann", "--scope", scope], tmp_path, server.home).out.strip()
        done = at(server, [*RUN], repository, home, STRETTO_TOKEN=token)
        assert (done.code, done.out) == (code, ""), done.err
        assert words in done.err
        assert json.loads(at(server, ["runs", "--json"], repository, home).out) == []


@pytest.mark.slow
def test_run_is_followed_across_a_restart_of_the_server(tmp_path: Path, home: Path, background: Programs) -> None:
    """Its output is shown whole and once, its events too, and the command ends as the run does."""
    script = f"i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line-$i; sleep 0.2; done; echo x >> {tmp_path}/ran"
    repository = make_repository(tmp_path / "repo", {"pipeline.yml": pipeline(script)})
    place, port = tmp_path / "server", free_port()
    address = {"STRETTO_API_PORT": str(port)}
    try:
        with serving(place, variables=address) as server:
            token = run_cli(["token", "create", "ann"], tmp_path, place).out.strip()
            variables = {"STRETTO_SERVER": server.url, "STRETTO_TOKEN": token}
            program = background.begin(["run", "-v", "--driver", "process"], repository, home, variables=variables)
            until(lambda: "line-5\n" in run_cli(["logs", "1"], repository, home, variables=variables).out, "output")
        with serving(place, variables=address):
            out, err = program.communicate(timeout=60)
        assert program.returncode == 0, err.decode()
        told = [line.partition("| ")[2] for line in out.decode().splitlines() if "| line-" in line]
        assert told == [f"line-{i}" for i in range(1, 31)]
        assert out.decode().count("test / work  running") == 1
        assert (tmp_path / "ran").read_text() == "x\n"
    finally:
        end_attempts(place)
