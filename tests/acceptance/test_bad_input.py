"""What can't be run is refused with a clear error and leaves no trace, here and at a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cli import run_cli
from tests.support.repository import git, make_repository
from tests.support.server import Server, serving

GOOD = "name: x\ndefault: {image: 'x:1'}\njobs:\n  a: {stage: test, script: x}\n"
HEAD = GOOD[: GOOD.index("  a:")]
BOMB = (
    "name: x\nvariables: &a0 {v: x}\n"
    + "".join(f"x{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    + "jobs:\n  a: {stage: test, script: x}\n"
)
ABSENT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Case:
    """A command that must be refused, with the words that its error must have.

    `pipeline` is the text of pipeline.yml, None for a repository without one. In arguments and words, `{repo}` is the
    repository's path, `{out}` a directory beside it.
    """

    name: str
    words: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    pipeline: str | None = GOOD


REPOSITORIES = [
    Case("no repository here", ("{out} is not in a git repository", "give its path or URL"), ("{out}",)),
    Case("no such directory", ("{out}/none", "no such directory"), ("{out}/none",)),
    Case("a file for a repository", ("{repo}/pipeline.yml", "not a directory"), ("{repo}/pipeline.yml",)),
    Case("a repository without a commit", ("{out}/fresh", "no commit", "commit something"), ("{out}/fresh",)),
    Case("no such server", ("ssh://none.invalid/x.git", "can't be read"), ("ssh://none.invalid/x.git",)),
    Case("command for a repository", ("'ext::sh -c touch%20x'", "not allowed", "https://"), ("ext::sh -c touch%20x",)),
    Case("option for a repository", ("'--upload-pack=x'", "'-'", "./"), ("--", "--upload-pack=x")),
    Case("option for a host", ("ssh://-oProxyCommand=x/y", "no repository"), ("ssh://-oProxyCommand=x/y",)),
    Case("unknown transport", ("'ftp'", "not allowed", "https://"), ("ftp://example.org/x.git",)),
    Case("no such branch", ("{repo}", "no branch or tag 'nowhere'", "git branch"), ("-b", "nowhere")),
    Case("no such commit", ("{repo}", f"no commit {ABSENT}", "whole hash"), ("-c", ABSENT)),
    Case("no such short commit", ("{repo}", "no commit 0123456", "whole hash"), ("-c", "0123456")),
    Case("word for a commit", ("'main'", "no commit hash", "-b"), ("-c", "main")),
    Case("option for a branch", ("'--all'", "can't be the name of a branch"), ("-b", "--all")),
]
DEFINITIONS = [
    Case("no file", ("no pipeline.yml", ".cicd-pipelines/", "-f FILE"), pipeline=None),
    Case("no such file", ("-f 'pipelin.yml'", "no such file", "did you mean 'pipeline.yml'?"), ("-f", "pipelin.yml")),
    Case("no such pipeline", ("no pipeline 'y'", "'x'"), ("-p", "y")),
    Case("empty file", ("pipeline.yml:1:1: empty-file: there is nothing in it",), pipeline=""),
    Case("null job", ("pipeline.yml:4:3: null-job: job 'a' is empty",), pipeline=HEAD + "  a:\n"),
    Case(
        "duplicate key",
        ("pipeline.yml:5:3: duplicate-key: the key 'a'", "the first is on line 4", "remove or rename"),
        pipeline=GOOD + "  a: {stage: test, script: y}\n",
    ),
    Case(
        "unknown key",
        ("pipeline.yml:5:20: unknown-key: a job has no key 'scirpt'", "did you mean 'script'?"),
        pipeline=GOOD + "  b: {stage: test, scirpt: x}\n",
    ),
    Case(
        "wrong type",
        ("pipeline.yml:5:28: wrong-type: 'script' must be", "found a map"),
        pipeline=GOOD + "  b: {stage: test, script: {x: y}}\n",
    ),
    Case(
        "unknown stage",
        ("pipeline.yml:5:14: unknown-stage: there is no stage 'tset'", "did you mean 'test'?"),
        pipeline=GOOD + "  b: {stage: tset, script: x}\n",
    ),
    Case(
        "unknown need",
        ("pipeline.yml:5:39: unknown-need: there is no job 'aa'", "did you mean 'a'?"),
        pipeline=GOOD + "  b: {stage: test, script: x, needs: [aa]}\n",
    ),
    Case(
        "cycle",
        ("pipeline.yml:6:39: need-cycle: the needs form a cycle: 'b' -> 'c' -> 'b'", "remove one"),
        pipeline=GOOD + "  b: {stage: test, script: x, needs: [c]}\n  c: {stage: test, script: x, needs: [b]}\n",
    ),
    Case("alias bomb", ("pipeline.yml:", "alias-expansion", "more than 200,000 keys"), pipeline=BOMB),
    Case("file of 10 MB", ("10485761 bytes", "at most 10485760"), pipeline=GOOD + "#" * (10 * 1024**2 - len(GOOD) + 1)),
    Case(
        "file of 2 MB", ("too-large", "2,097,152 bytes", "1,048,576"), pipeline=GOOD + "#" * (2 * 1024**2 - len(GOOD))
    ),
    Case("file out of the repository", ("-f '../x.yml'", "leaves the repository", "relative"), ("-f", "../x.yml")),
    Case("file of the host", ("-f '/etc/passwd'", "leaves the repository", "relative"), ("-f", "/etc/passwd")),
    Case(
        "artifacts out of the repository",
        ("pipeline.yml:5:", "'../x'"),
        pipeline=GOOD + "  b: {stage: test, script: x, artifacts: {paths: [../x]}}\n",
    ),
    Case(
        "working directory out of the repository",
        ("pipeline.yml:5:", "'/etc'"),
        pipeline=GOOD + "  b: {stage: test, script: x, working_directory: /etc}\n",
    ),
]
REMOTE = [
    Case(
        "no such branch", ("ssh://example.org{repo}", "no branch or tag 'nowhere'", "git ls-remote"), ("-b", "nowhere")
    ),
    Case("no such commit", ("ssh://example.org{repo}", f"no commit {ABSENT}"), ("-c", ABSENT)),
    Case("no such short commit", ("ssh://example.org{repo}", "no commit 0123456", "whole hash"), ("-c", "0123456")),
    *(case for case in DEFINITIONS if case.name in ("no file", "no such pipeline", "cycle", "file of 10 MB")),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is asked for what it can't do, again and again."""
    root = tmp_path_factory.mktemp("server")
    with serving(root / "home", variables=make_ssh(root)) as server:
        yield server


@pytest.fixture(params=["here", "server"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home where the work would be done: that of the command, or that of the server it talks to."""
    if request.param == "here":
        return tmp_path / "home"
    server: Server = request.getfixturevalue("server")
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)
    return server.home


def kept(home: Path) -> list[str]:
    """Return the files under a home besides the empty store and what a server has there."""
    always = {"installation", "stretto.db", "stretto.db.reserve", "stretto.db-shm", "stretto.db-wal"}
    always |= {"server.json", "serve.log"}
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and path.name not in always)


def make_places(tmp_path: Path, pipeline: str | None) -> tuple[Path, Path]:
    """Make the repository, and a directory beside it with an empty repository in it."""
    files = {"README": "x\n"} if pipeline is None else {"pipeline.yml": pipeline}
    repository = make_repository(tmp_path / "repo", files)
    out = tmp_path / "out"
    out.mkdir()
    git(out, "init", "--quiet", "fresh")
    return repository, out


def make_ssh(directory: Path) -> dict[str, str]:
    """Make an ssh that ends up on this host, and return the variables that make git use it."""
    ssh = directory / "ssh"
    ssh.write_text(
        '#!/bin/sh\nfor last; do :; done\ncase "$*" in *none.invalid*) exit 255;; esac\nexec sh -c "$last"\n'
    )
    ssh.chmod(0o755)
    return {"GIT_SSH_COMMAND": str(ssh), "GIT_SSH_VARIANT": "simple"}


def refuse(case: Case, repository: Path, out: Path, home: Path, *address: str) -> str:
    """Run the command of a case, which must be refused without a trace, and return its error."""
    places = {"repo": repository, "out": out}
    arguments = [word.format(**places) for word in case.arguments]
    variables = {"DOCKER_HOST": f"unix://{out}/none.sock", **make_ssh(out)}  # an engine would fail in another way
    done = run_cli(["run", *address, *arguments], repository, home, variables=variables)
    assert done.code == 2, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    assert len(done.err) < 2_000
    assert {path.name for path in repository.iterdir()} <= {".git", "README", "pipeline.yml"}
    assert kept(home) == []
    assert json.loads(run_cli(["runs", "--json"], out, home).out) == []
    return done.err


@pytest.mark.parametrize("case", [*REPOSITORIES, *DEFINITIONS], ids=lambda case: case.name)
def test_bad_input_is_refused_without_a_trace(tmp_path: Path, home: Path, case: Case) -> None:
    """Exit code 2, an error that says what, where and what to do; no run, no tree, no mirror, no call of the engine."""
    repository, out = make_places(tmp_path, case.pipeline)
    error = refuse(case, repository, out, home)
    for word in case.words:
        assert word.format(repo=repository, out=out) in error


@pytest.mark.parametrize("case", REMOTE, ids=lambda case: case.name)
def test_bad_input_from_a_server_leaves_no_mirror(tmp_path: Path, home: Path, case: Case) -> None:
    """The same for what had to be fetched before it could be refused."""
    repository, out = make_places(tmp_path, case.pipeline)
    error = refuse(case, repository, out, home, f"ssh://example.org{repository}")
    for word in case.words:
        assert word.format(repo=repository, out=out) in error
