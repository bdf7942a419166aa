"""A real server whose runs are started by a forge: from the command that makes the hook to the run that is over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.cli import run_cli
from tests.support.repository import git, make_repository
from tests.support.server import Server, serving
from tests.unit.triggers import payload

PIPELINE = "name: small\nstages: [all]\njobs:\n  greet: {stage: all, script: 'echo hello $WHO'}\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that runs jobs as processes, of repositories below its own directory."""
    root = tmp_path_factory.mktemp("triggers")
    variables = {"STRETTO_DRIVER": "process", "STRETTO_API_LOCAL_ROOT": str(root)}
    with serving(root / "home", variables=variables) as opened:
        yield opened


def ask(server: Server, *args: str, code: int = 0) -> Any:
    """Return what a command prints as JSON."""
    done = run_cli([*args, "--json"], server.home.parent, server.home, variables=server.variables)
    assert done.code == code, done.err
    return json.loads(done.out or "null")


def test_push_is_built_by_the_server(server: Server) -> None:
    """A signed delivery of a push becomes a run that a conductor carries to its end; sent again, it is the same run."""
    repository = make_repository(server.home.parent / "words", {"pipeline.yml": PIPELINE})
    commit = git(repository, "rev-parse", "HEAD").strip()
    hook = ask(server, "hook", "create", "gitea", str(repository), "--branch", "main", "--var", "WHO=forge")
    data = payload.gitea_push(after=commit, head_commit={"id": commit})
    data["repository"] |= {"clone_url": f"file://{repository}"}
    body = payload.body_of(data)
    headers = payload.gitea_headers(body, secret=hook["secret"])
    answer = httpx2.post(server.url + hook["path"], content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    (run,) = answer.json()["runs"]
    assert httpx2.post(server.url + hook["path"], content=body, headers=headers).json()["runs"] == [run]
    assert httpx2.post(server.url + hook["path"], content=body).status_code == 404
    report = run_cli(["resume", run, "--json"], server.home.parent, server.home, variables=server.variables)
    told = report.report["run"]
    assert (told["status"], told["commit"], told["branch"]) == ("success", commit, "main"), told["message"]
    log = run_cli(["logs", run, "greet"], server.home.parent, server.home, variables=server.variables)
    assert log.out == "hello forge\n"
    (delivery,) = ask(server, "hook", "deliveries", hook["id"])
    assert (delivery["runs"], delivery["ignored"]) == ([run], None)
    assert [it["id"] for it in ask(server, "hook", "list")] == [hook["id"]]
    ask(server, "hook", "delete", hook["id"])
    assert ask(server, "hook", "list") == []


def test_schedules_and_forges_are_kept_by_the_server(server: Server) -> None:
    """Made, listed, disabled, enabled, deleted; what can't work is told with exit code 2."""
    made = ask(
        server, "schedule", "create", "30 2 * * *", "https://git.example.com/acme/words", "--zone", "Europe/Berlin"
    )
    assert ask(server, "schedule", "disable", made["id"])["next_at"] is None
    assert ask(server, "schedule", "enable", made["id"]) == made
    assert ask(server, "schedule", "list") == [made]
    ask(server, "schedule", "delete", made["id"])
    assert ask(server, "schedule", "list") == []
    refused = run_cli(
        ["schedule", "create", "at noon", "https://git.example.com/acme/words"],
        server.home.parent,
        server.home,
        variables=server.variables,
    )
    assert (refused.code, "five fields" in refused.err) == (2, True)
    forge = ask(server, "forge", "set", "git.example.com", "gitea", "--token-env", "STRETTO_FORGE_TEST")
    assert ask(server, "forge", "list") == [forge]
    ask(server, "forge", "delete", "git.example.com")
    assert ask(server, "forge", "list") == []


def test_triggers_need_a_server(tmp_path: Path) -> None:
    """Without one, the command says so and exits with 2."""
    refused = run_cli(["hook", "list"], tmp_path, tmp_path / "home", variables={"STRETTO_SERVER": "none"})
    assert refused.code == 2
    assert "stretto serve" in refused.err
