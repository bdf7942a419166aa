"""`stretto run` around the run itself: what is not committed, Ctrl-C before the start, the process in the background."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stretto.core.ports import RunFilter, RunRow
from stretto.core.states import Status
from stretto.doors.cli.main import main
from stretto.settings import Settings
from stretto.waist import RunRequest
from stretto.wiring import open_service
from tests.support.repository import make_repository

PIPELINE = "name: one\njobs:\n  work: {stage: test, script: echo hi}\n"
NOTE = "the working tree has changes that are not part of the run"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a pipeline, which is the current directory; jobs are processes, the home is fresh."""
    monkeypatch.setenv("STRETTO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STRETTO_DRIVER", "process")
    path = make_repository(tmp_path / "repo", {"pipeline.yml": PIPELINE})
    monkeypatch.chdir(path)
    return path


def test_run_names_the_definition_that_is_not_committed(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipeline.yml that waits to be committed is named with the two ways out; other errors stay as they are."""
    bare = make_repository(tmp_path / "other", {"README": "x"})
    monkeypatch.chdir(bare)
    assert main(["run"]) == 2
    assert "no pipeline.yml at its root" in capsys.readouterr().err
    (bare / "pipeline.yml").write_text(PIPELINE)
    assert main(["run"]) == 2
    told = capsys.readouterr().err
    assert "the working tree has pipeline.yml, but not committed" in told
    assert "--working-tree" in told
    assert main(["run", "-f", "other.yml"]) == 2
    assert "the commit has no such file" in capsys.readouterr().err
    assert main(["run", "-q", "--working-tree"]) == 0


def test_run_tells_of_changes_that_it_leaves_out(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, where there are changes and they are not run; a quiet or clean run has none."""
    assert main(["run"]) == 0
    assert NOTE not in capsys.readouterr().out
    (repository / "new").touch()
    assert main(["run"]) == 0
    assert capsys.readouterr().out.count(NOTE) == 1
    for words in (["--working-tree"], ["-b", "main"], ["-q"]):
        assert main(["run", *words]) == 0
        assert NOTE not in capsys.readouterr().out


def row(number: int) -> RunRow:
    """A run as it was just stored."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    return RunRow(f"id{number}", number, "pipeline", "one", Status.PENDING, *[None] * 6, at, None, None)  # type: ignore[arg-type]


class Interrupted:
    """A waist that stores a run, and then Ctrl-C comes."""

    is_server = False

    async def has_changes(self, request: RunRequest) -> bool:
        """There are none."""
        return False

    async def submit(self, request: RunRequest, *, stored: Callable[[RunRow], None]) -> list[RunRow]:
        """Store one run of two."""
        stored(row(7))
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


@pytest.mark.parametrize("more", [[], ["--detach"]])
def test_interrupted_submit_names_what_is_stored(
    repository: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    """What is on record is named with what can be done about it; the exit code is that of an interrupt."""

    @asynccontextmanager
    async def opener(settings: Settings) -> AsyncIterator[Any]:
        yield Interrupted()

    assert main(["run", *more], opener=opener) == 130
    told = capsys.readouterr()
    assert told.out == ""
    assert "run 7 is stored and was not started" in told.err
    assert "`stretto resume 7`" in told.err


def test_detach_tells_of_a_process_that_died(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The number is printed all the same, and the error says where to look and how to go on."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert main(["run", "--detach"]) == 1
    told = capsys.readouterr()
    assert told.out == "1\n"
    assert "of run 1 ended at once" in told.err
    assert f"{tmp_path}/home/logs/detached/run-1.log" in told.err
    assert "`stretto resume 1`" in told.err


async def test_submit_that_is_cancelled_stores_all_or_none(tmp_path: Path, repository: Path) -> None:
    """Cancelled when the first of two runs is on disk, it stores the second too, tells of both, and is cancelled."""
    files = {f".cicd-pipelines/{name}.yml": PIPELINE.replace("one", name) for name in ("a", "b")}
    path = make_repository(tmp_path / "two", files)
    told: list[RunRow] = []
    async with open_service(replace(Settings(), home=tmp_path / "home", driver="process")) as service:

        def stored(row: RunRow) -> None:
            told.append(row)
            submitting.cancel()

        request = RunRequest(directory=path, pipelines=("a", "b"))
        submitting = asyncio.create_task(service.submit(request, stored=stored))
        with pytest.raises(asyncio.CancelledError):
            await submitting
        assert [row.name for row in told] == ["a", "b"]
        assert {row.id for row in await service.list_runs(RunFilter())} == {row.id for row in told}
