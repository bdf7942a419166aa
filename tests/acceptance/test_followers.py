"""Many who follow one log, and those who leave: bounded memory, everything whole, nothing left behind."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stretto.settings import Settings
from stretto.waist import RunRequest
from stretto.wiring import open_service
from tests.support.background import Programs, programs, until
from tests.support.cli import run_cli
from tests.support.repository import make_repository

LOG_BYTES = 100_000_000
FOLLOWERS = 50
GROWTH_LIMIT_KIB = 96 * 1024
"""What 50 followers may cost in memory: a piece of the log and its copies on the way out for each."""

PIPELINE = """\
name: talkative
jobs:
  one:
    stage: test
    script: yes 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde | head -c 100000000
"""


@pytest.fixture
def begun() -> Iterator[Programs]:
    """Programs that end with the test."""
    with programs() as made:
        yield made


def resident_kib(process: subprocess.Popen[bytes], what: str = "VmRSS") -> int:
    """Return the memory of a process, `VmHWM` for its peak."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text(), re.M)
    assert found is not None
    return int(found[1])


async def follow(url: str, token: str) -> tuple[int, str]:
    """Read the log to its end over a plain connection; return how many bytes it had, and their digest."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
    head = f"GET /api/v1/runs/1/jobs/one/log?follow=1 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(head.encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    digest, count = hashlib.sha256(), 0
    while size := int(await reader.readuntil(b"\r\n"), 16):
        data = await reader.readexactly(size)
        await reader.readexactly(2)
        digest.update(data)
        count += size
    writer.close()
    return count, digest.hexdigest()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_fifty_follow_a_large_log_in_bounded_memory(
    begun: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 50 gets all 100 MB, and the server grows by no more than pieces of it; who leaves is noticed."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    repository = make_repository(tmp_path / "repo", {"pipeline.yml": PIPELINE})

    async def run() -> None:
        async with open_service(replace(Settings(), home=tmp_path / "home", driver="process")) as service:
            (row,) = await service.submit(RunRequest(repository=str(repository)))
            await service.conduct(row.id)

    asyncio.run(run())
    variables = {"STRETTO_DRIVER": "process", "STRETTO_API_PORT": "0"}
    server = begun.begin(["serve", "--role", "api", "-q"], tmp_path, tmp_path / "home", variables=variables)
    assert server.stdout is not None
    url = server.stdout.readline().decode().strip()
    token = run_cli(
        ["token", "create", "a", "--scope", "read"], tmp_path, tmp_path / "home", variables=variables
    ).out.strip()

    async def all_of_them() -> list[tuple[int, str]]:
        return await asyncio.gather(*(follow(url, token) for _ in range(FOLLOWERS)))

    assert asyncio.run(follow(url, token))[0] == LOG_BYTES
    before = resident_kib(server)
    began_s = time.monotonic()
    done = asyncio.run(all_of_them())
    took_s = time.monotonic() - began_s
    peak = resident_kib(server, "VmHWM")
    print(f"{FOLLOWERS} x {LOG_BYTES / 1e6:g} MB in {took_s:.1f} s; {before} KiB before, {peak} KiB at most")  # noqa: T201
    assert set(done) == {done[0]}
    assert done[0][0] == LOG_BYTES
    assert peak - before < GROWTH_LIMIT_KIB

    host, port = url.removeprefix("http://").split(":")
    gone = []
    for _ in range(20):
        connection = socket.create_connection((host, int(port)))
        connection.sendall(
            f"GET /api/v1/runs/1/jobs/one/log HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        gone.append(connection)
    for connection in gone:
        assert connection.recv(1000)
        connection.close()

    def open_requests() -> float:
        with socket.create_connection((host, int(port)), timeout=20) as asked:
            asked.sendall(
                f"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
            )
            text = b"".join(iter(lambda: asked.recv(65536), b"")).decode()
        found = re.search(r"^stretto_http_open_requests (\S+)", text, re.M)
        assert found is not None
        return float(found[1])

    until(lambda: open_requests() == 1, "end of the answers that nobody reads")
