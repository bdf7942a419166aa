"""How git is run: bounded, without secrets in sight, with errors that say what to do."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path

import pytest

from stretto.core.errors import DiskFullError, SourceError, StoreError
from stretto.core.run import Run
from stretto.core.spec import RunSpec
from stretto.sources.command import Completed, clean, failure, run
from stretto.sources.git import Repositories

from .conftest import Repository


async def is_gone(pid: int) -> bool:
    """Say whether a process that was killed is dead soon; that takes a moment, even after KILL."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        await asyncio.sleep(0.01)
    return False


async def test_git_that_hangs_is_killed_with_its_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time-out neither git nor the ssh it started is there."""
    report = tmp_path / "pid"
    os.mkfifo(report)
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\necho $$ > {report}\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(program))
    call = asyncio.create_task(run("ls-remote", "--", "ssh://host.example/app", timeout_s=3))
    helper = int(await asyncio.to_thread(report.read_text))
    with pytest.raises(SourceError, match="did not end within 3 s"):
        await call
    assert await is_gone(helper)


async def test_git_that_is_cancelled_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled call ends at once and leaves no helper behind."""
    report = tmp_path / "pid"
    os.mkfifo(report)
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\necho $$ > {report}\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(program))
    call = asyncio.create_task(run("ls-remote", "--", "ssh://host.example/app"))
    helper = int(await asyncio.to_thread(report.read_text))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await is_gone(helper)


async def test_credentials_of_a_url_reach_their_host_only(repositories: Repositories, tmp_path: Path) -> None:
    """A server that asks gets name and password; the error that follows shows neither."""
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        allowed = [line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("Authorization: ")]
        seen.extend(allowed)
        status = "404 Not Found" if allowed else '401 Unauthorized\r\nWWW-Authenticate: Basic realm="git"'
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SourceError) as caught:
            await repositories.resolve(f"http://ada:s3cret@127.0.0.1:{port}/app.git", cwd=tmp_path)
    assert seen == ["Basic " + base64.b64encode(b"ada:s3cret").decode()]
    assert "s3cret" not in caught.value.message
    assert f"http://127.0.0.1:{port}/app.git" in caught.value.message


def test_clean_masks_and_cuts() -> None:
    """Foreign text is one line of bounded length, without the user part of a URL."""
    text = clean(b"fatal: unable to access 'https://a:b@example.org/x':\n  no route\nremote: sorry\n" + b"x" * 5000)
    assert text.startswith("unable to access 'https://***@example.org/x':; no route; sorry; xxx")
    assert len(text) < 700


def test_failure_of_a_full_disk_is_no_fault_of_the_caller() -> None:
    """No room left is told apart from a repository that can't be had."""
    full = failure("it can't be fetched", Completed(128, b"", "write error: No space left on device"))
    other = failure("it can't be fetched", Completed(128, b"", "Could not resolve host: example.org"))
    assert isinstance(full, DiskFullError)
    assert isinstance(other, SourceError)
    assert other.hint == "check the URL and the network"


async def test_missing_git_is_told(repositories: Repositories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the program, the error says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="git is not installed"):
        await repositories.resolve(tmp_path, cwd=tmp_path)


async def test_home_that_cannot_be_written_is_a_store_error(repository: Repository, tmp_path: Path) -> None:
    """Where mirrors can't be kept, the place is named."""
    (tmp_path / "home").touch()
    repositories = Repositories(tmp_path / "home")
    source = await repositories.resolve(repository.path, cwd=tmp_path)
    with pytest.raises(StoreError, match="home"):
        await repositories.checkout_source(source)


async def test_run_without_a_source_has_no_checkout(repositories: Repositories) -> None:
    """A run that names no repository gets no tree."""
    spec = RunSpec(kind="task", name="x", stages=(), jobs=())
    assert await repositories.checkout(Run("r1", spec)) is None
