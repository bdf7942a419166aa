"""Callers of a server, in a process of its own: each asks over one connection that is kept, and asks again when it is answered.

    STRETTO_TOKEN=TOKEN python -m bench.caller URL CLIENTS REQUESTS

Says `ready`, begins with a line of standard input, and says how many seconds it took. As light as can be, so that the server is
what is measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any
from urllib.parse import urlsplit


class Caller:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        self._reader = reader
        self._writer = writer
        self._headers = f"Host: bench\r\nAuthorization: Bearer {token}\r\n"

    @classmethod
    async def connect(cls, url: str, token: str) -> Caller:
        """Return a connection to the server at the URL."""
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port), token)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return what the answer holds; RuntimeError unless it is a good one."""
        data = b"" if body is None else json.dumps(body).encode()
        kind = "Content-Type: application/json\r\n" if data else ""
        head = f"{method} {path} HTTP/1.1\r\n{self._headers}{kind}Content-Length: {len(data)}\r\n\r\n"
        self._writer.write(head.encode() + data)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n", 1)[0])
        text = await self._reader.readexactly(length)
        if answer[9:10] != b"2":
            raise RuntimeError(f"{method} {path}: {answer.decode()}{text.decode()}")
        return json.loads(text)

    async def follow(self, path: str) -> None:
        """Ask for server-sent events and wait for the first bytes; the answer is read and dropped from then on."""
        self._writer.write(f"GET {path} HTTP/1.1\r\n{self._headers}Accept: text/event-stream\r\n\r\n".encode())
        answer = await self._reader.readuntil(b"\r\n\r\n")
        if answer[9:12] != b"200":
            raise RuntimeError(f"GET {path}: {answer.decode()}")
        await self._reader.readuntil(b"\n\n")

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


SUBMISSION = {"repository": "https://example.org/team/project.git", "branch": "main", "pipelines": ["build"]}


async def _submit(caller: Caller, requests: int) -> None:
    for _ in range(requests):
        await caller.ask("POST", "/api/v1/runs", SUBMISSION)


async def main(url: str, clients: int, requests: int) -> None:
    """Connect, submit runs, tell."""
    callers = [await Caller.connect(url, os.environ["STRETTO_TOKEN"]) for _ in range(clients)]
    for caller in callers:
        await _submit(caller, 1)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(_submit(caller, requests // clients))
    sys.stdout.write(f"{time.perf_counter() - began}\n")
    sys.stdout.flush()
    for caller in callers:
        caller.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
