"""A small HTTP server that stands for a forge: it notes what it is sent and answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sent:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class ForgeServer:
    """What came, and the answers still to give: (status, headers, body), 201 when there are no more; None hangs up."""

    url: str = ""
    sent: list[Sent] = field(default_factory=list)
    answers: deque[tuple[int, dict[str, str], str] | None] = field(default_factory=deque)
    stalled: bool = False
    """Whether it takes requests and never answers."""

    def answer(self, status: int, body: str = "{}", **headers: str) -> None:
        """Give this answer next, after those that were said before."""
        self.answers.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, body))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the request of one connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.sent.append(Sent(method, path, headers, json.loads(body)))
            if self.stalled:
                await reader.read()  # until the other side gives up
            elif (answer := self.answers.popleft() if self.answers else (201, {}, "{}")) is not None:
                status, more, text = answer
                lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(text.encode())}", "Connection: close"]
                lines += [f"{name}: {value}" for name, value in more.items()]
                writer.write(("\r\n".join(lines) + "\r\n\r\n" + text).encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the other side went away
        finally:
            writer.close()


@asynccontextmanager
async def open_forge_server() -> AsyncIterator[ForgeServer]:
    """Serve on a free port of the loopback."""
    forge = ForgeServer()
    server = await asyncio.start_server(forge.serve, "127.0.0.1", 0)
    forge.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield forge
    finally:
        server.close()
