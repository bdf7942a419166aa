"""Which server a command talks to, and with which token; login and logout."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stretto.client.credentials import read_token, write_token
from stretto.doors.cli.main import main
from stretto.doors.cli.server import credentials_file
from tests.unit.client.scripted import Scripted, answer, problem, scripted

VERSION = answer(200, {"version": "1.2", "api": "v1"})
NO_RUNS = answer(200, {"runs": [], "next": None})
TOKEN = "stretto_1_secret"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a configuration of their own."""
    for name in ("STRETTO_SERVER", "STRETTO_TOKEN", "STRETTO_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("STRETTO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@asynccontextmanager
async def server(*answers: bytes) -> AsyncIterator[Scripted]:
    """Give a server that greets and then has these answers."""
    async with scripted(VERSION, *(answers or (NO_RUNS,))) as script:
        yield script


async def stretto(*arguments: str) -> int:
    """Run a command while the server beside it answers."""
    return await asyncio.to_thread(main, arguments)


def tokens(script: Scripted) -> set[str | None]:
    """Return what callers brought."""
    return {asked.headers.get("authorization") for asked in script.asked}


@pytest.mark.parametrize("way", ["option", "variable", "file"])
async def test_named_server_is_talked_to(place: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """By option, variable or setting, with the token of the environment; nothing is done in the home."""
    monkeypatch.setenv("STRETTO_TOKEN", TOKEN)
    async with server() as script:
        if way == "variable":
            monkeypatch.setenv("STRETTO_SERVER", script.url)
        if way == "file":
            (place / "config/stretto").mkdir(parents=True)
            (place / "config/stretto/stretto.toml").write_text(f'server = "{script.url}/"')
        assert await stretto("runs", *(["--server", script.url] if way == "option" else [])) == 0
    assert tokens(script) == {f"Bearer {TOKEN}"}
    assert not (place / "home").exists()


@pytest.mark.parametrize("words", [["--server", "none"], ["--home", "home"]], ids=str)
async def test_server_can_be_done_without(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """`none`, or a home named on the command line, outranks the environment."""
    async with server() as script:
        monkeypatch.setenv("STRETTO_SERVER", script.url)
        assert await stretto("runs", *words) == 0
    assert script.asked == []


async def test_token_of_a_login_goes_to_its_server_only() -> None:
    """Another server gets none."""
    async with server() as known, server() as other:
        write_token(credentials_file(), known.url, TOKEN)
        assert await stretto("runs", "--server", known.url) == 0
        assert await stretto("runs", "--server", other.url) == 0
    assert tokens(known) == {f"Bearer {TOKEN}"}
    assert tokens(other) == {None}


def announce(place: Path, url: str, *, mode: int = 0o600) -> None:
    """Write what a local server tells of itself."""
    (place / "home").mkdir()
    path = place / "home/server.json"
    path.write_text(json.dumps({"url": url, "token": TOKEN}))
    path.chmod(mode)


async def test_server_over_the_same_home_is_found(place: Path) -> None:
    """With the token that it left for its owner."""
    async with server() as script:
        announce(place, script.url)
        assert await stretto("runs") == 0
    assert tokens(script) == {f"Bearer {TOKEN}"}
    assert not (place / "home/stretto.db").exists()


@pytest.mark.parametrize("case", ["gone", "another program", "another server", "open to others", "broken"])
async def test_command_does_without_a_local_server_that_is_not_its_own(
    place: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    """The file was left behind, or its port is another's by now: the command does the work itself, and says nothing."""
    first = answer(200, b"hello", media_type="text/plain") if case == "another program" else VERSION
    async with scripted(first, problem(401, "the token is not valid", word="access")) as script:
        if case != "gone":
            announce(place, script.url, mode=0o644 if case == "open to others" else 0o600)
            if case == "broken":
                (place / "home/server.json").write_text("{")
            assert await stretto("runs") == 0
    if case == "gone":
        announce(place, script.url)
        assert await stretto("runs") == 0
    assert (place / "home/stretto.db").exists()
    assert capsys.readouterr().err == ""
    assert case in ("another program", "another server") or script.asked == []


class Typed(io.StringIO):
    """Standard input that is no terminal."""

    def isatty(self) -> bool:
        """It is none."""
        return False


async def test_login_keeps_a_token_that_the_server_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is tried first; nothing that is printed has it."""
    monkeypatch.setattr("sys.stdin", Typed(f"{TOKEN}\n"))
    async with server() as script:
        assert await stretto("login", script.url, "--token-stdin") == 0
    assert read_token(credentials_file(), script.url) == TOKEN
    assert tokens(script) == {f"Bearer {TOKEN}"}
    said = capsys.readouterr()
    assert f"logged in to {script.url} (Stretto 1.2)" in said.out
    assert TOKEN not in said.out + said.err


async def test_login_asks_on_a_terminal_without_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what Python has for it."""
    terminal = Typed()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr("getpass.getpass", lambda prompt: TOKEN)
    async with server() as script:
        assert await stretto("login", script.url) == 0
    assert read_token(credentials_file(), script.url) == TOKEN


async def test_login_keeps_no_token_that_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and an earlier token stays."""
    monkeypatch.setattr("sys.stdin", Typed("wrong\n"))
    async with server(problem(401, "the token is not valid", word="access")) as script:
        write_token(credentials_file(), script.url, TOKEN)
        assert await stretto("login", script.url, "--token-stdin") == 2
    assert read_token(credentials_file(), script.url) == TOKEN
    assert "not valid" in capsys.readouterr().err


def test_login_without_a_terminal_says_how(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing waits for what nobody can type."""
    monkeypatch.setattr("sys.stdin", Typed())
    assert main(["login", "https://example.org"]) == 2
    assert "--token-stdin" in capsys.readouterr().err


def test_logout_forgets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The server that is named, or the one that commands talk to; without either it asks which."""
    for url in ("https://a.example", "https://b.example"):
        write_token(credentials_file(), url, TOKEN)
    assert main(["logout"]) == 2
    assert "https://a.example, https://b.example" in capsys.readouterr().err
    assert main(["logout", "https://A.example/"]) == 0
    monkeypatch.setenv("STRETTO_SERVER", "https://b.example")
    assert main(["logout", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "logged out of https://a.example"
    assert json.loads(lines[1]) == {"server": "https://b.example", "forgot": True}
    assert read_token(credentials_file(), "https://b.example") is None


async def test_error_of_a_server_has_its_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not there: 1, with what to do."""
    monkeypatch.setattr("stretto.doors.cli.server.GREET_S", 0.0)
    async with server() as script:
        pass
    assert await stretto("runs", "--server", script.url, "--json") == 1
    error: dict[str, Any] = json.loads(capsys.readouterr().err)["error"]
    assert "can't be reached" in error["message"]


@pytest.mark.parametrize("stale", [False, True], ids=["no server", "a server that is gone"])
def test_command_without_a_server_pays_for_none(place: Path, stale: bool) -> None:
    """The HTTP library is not loaded, not even to find that a server is gone."""
    if stale:
        announce(place, "http://127.0.0.1:9")
    code = (
        "import sys; from stretto.doors.cli.main import main; main(['runs']); "
        "print([it for it in ('httpx2', 'fastapi', 'psycopg', 'aio_pika') if it in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "No runs.\n[]\n"


async def test_jobs_are_for_the_server_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    """What would have no effect is refused before anything is sent."""
    async with server() as script:
        assert await stretto("run", "https://example.org/x.git", "--jobs", "3", "--server", script.url) == 2
    assert "--jobs" in capsys.readouterr().err
    assert len(script.asked) == 1
