"""Every way a command can end: its message, its stream, its exit code. The waist is a scripted one, run in this process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import click
import pytest

from stretto.core.errors import (
    DefinitionError,
    DiskFullError,
    EngineUnavailableError,
    Fault,
    NotFoundError,
    RunBusyError,
    SchemaError,
    StrettoError,
    TransitionError,
)
from stretto.core.ports import RunFilter, RunRow
from stretto.doors.cli.failure import MASK, mask_values
from stretto.doors.cli.main import COMMANDS, main, stretto
from stretto.settings import Settings

Opener = Callable[[Settings], AbstractAsyncContextManager["FakeWaist"]]


class FakeWaist:
    """A waist that has these runs, or fails in this way."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure

    async def list_runs(self, which: RunFilter) -> list[RunRow]:
        """Fail as scripted, else return no runs."""
        if self.failure is not None:
            raise self.failure
        return []


def opener(failure: BaseException | None = None) -> Opener:
    """Return what opens such a waist."""

    @asynccontextmanager
    async def open_fake(settings: Settings) -> AsyncIterator[FakeWaist]:
        yield FakeWaist(failure)

    return open_fake


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRETTO_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (NotFoundError("no run 7", hint="list them"), 2),
        (RunBusyError("run 7 is owned"), 2),
        (DiskFullError("no room"), 1),
        (EngineUnavailableError("no engine"), 1),
        (SchemaError("too new"), 3),
        (TransitionError("impossible"), 3),
        (StrettoError("odd"), 3),
        (RuntimeError("odd"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_failure_gives_its_exit_code(failure: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """stdout stays empty, stderr tells of it, without a traceback."""
    assert main(["runs"], opener=opener(failure)) == code  # type: ignore[arg-type]
    told = capsys.readouterr()
    assert told.out == ""
    assert "stretto:" in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize("arguments", [["runs", "--json"], ["--json", "runs"]])
def test_failure_is_json_on_request(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With `--json`, before or after the command, the error is one JSON line on stderr."""
    failure = DefinitionError("a.yml", [Fault(2, 3, "unknown-key", "no 'x'", "did you mean 'y'?")])
    assert main(arguments, opener=opener(failure)) == 2  # type: ignore[arg-type]
    told = capsys.readouterr()
    error = json.loads(told.err)["error"]
    assert told.out == ""
    assert (error["faults"][0]["line"], error["faults"][0]["rule"]) == (2, "unknown-key")


def test_control_characters_of_an_error_are_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Text from outside can't reach the terminal as anything but text."""
    main(["runs"], opener=opener(NotFoundError("no \x1b[2J\u202e run")))  # type: ignore[arg-type]
    assert "no \\x1b[2J\\u202e run" in capsys.readouterr().err


def test_bug_leaves_a_file_to_send_without_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The crash file has traceback, versions and arguments; values of --var and --set are masked wherever they stand."""
    arguments = ["--home", str(tmp_path), "run", "--var", "KEY=hunter22", "--set=a=hunter33"]

    @asynccontextmanager
    async def explode(settings: Settings) -> AsyncIterator[FakeWaist]:
        raise RuntimeError("got hunter22")
        yield

    assert main(arguments, opener=explode) == 3  # type: ignore[arg-type]
    [path] = (tmp_path / "crashes").iterdir()
    assert f"send this file: {path}" in capsys.readouterr().err
    text = path.read_text()
    assert "RuntimeError: got [masked]" in text
    assert "hunter" not in text
    assert f"KEY={MASK}" in text
    assert path.stat().st_mode & 0o777 == 0o600


def test_mask_values_keeps_everything_else() -> None:
    """Only what follows --var and --set is masked, and only behind the name."""
    shown, secrets = mask_values(["run", "url", "--var", "A=x=y", "--set=b=z", "--jobs", "2"])
    assert shown == ["run", "url", "--var", f"A={MASK}", f"--set=b={MASK}", "--jobs", "2"]
    assert secrets == ["x=y", "z"]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [(["rnu"], "did you mean 'run'?"), (["runs", "--statsu", "failed"], "--status"), (["logs"], "stretto logs --help")],
)
def test_usage_error_says_what_may_be_meant(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong command, option or argument is exit code 2 with a hint."""
    assert main(arguments) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_parses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`-h` of every command works, and its example is a command line that the command takes."""
    assert main([name, "-h"]) == 0
    command = stretto.get_command(click.Context(stretto), name)
    assert command is not None
    example: str = command.example  # type: ignore[attr-defined]
    assert example in capsys.readouterr().out
    words = example.split(" >")[0].split()
    assert words[:2] == ["stretto", name]
    command.make_context(name, words[2:], resilient_parsing=True)


def test_runs_as_json_is_an_array(capsys: pytest.CaptureFixture[str]) -> None:
    """No runs are an empty array, not a sentence."""
    assert main(["runs", "--json"], opener=opener()) == 0  # type: ignore[arg-type]
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(("color", "coloured"), [("always", True), ("never", False), ("auto", False)])
def test_color_option_decides(
    color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`always` wins over NO_COLOR; a pipe gets none by itself."""
    monkeypatch.setenv("NO_COLOR", "1")
    main(["--color", color, "runs"], opener=opener(NotFoundError("no")))  # type: ignore[arg-type]
    assert ("\x1b[" in capsys.readouterr().err) is coloured
