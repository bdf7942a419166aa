"""An HTTP server on the loopback that answers what a test wrote down, byte for byte, and breaks off where it says so."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from stretto.client.target import Target

HANG = b""
"""An answer that never comes."""
TOKEN = "stretto_0123_secret"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came. `target` is path and query."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Scripted:
    """The server: gives the answers in turn, one for each connection, the last one for ever."""

    answers: list[bytes]
    asked: list[Asked] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with the first request."""
    url: str = ""

    @property
    def target(self) -> Target:
        """What a client is given."""
        return Target(self.url, TOKEN)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and hang up."""
        try:
            self.asked.append(await _read(reader))
            self.came.set()
            answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
            if answer == HANG:
                await reader.read()
            writer.write(answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, as some of them should
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, target, headers, body)


@asynccontextmanager
async def scripted(*answers: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
    """Give a server that is up."""
    script = Scripted(list(answers))
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    script.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    async with server:
        yield script


def answer(
    status: int,
    body: bytes | Any = b"",
    *,
    media_type: str = "application/json",
    cut: int | None = None,
    **headers: str,
) -> bytes:
    """Return an answer; `body` is bytes or what becomes JSON. With `cut` the connection breaks after so many bytes of it."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"content-type: {media_type}", f"content-length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([*lines, "connection: close", "", ""]).encode()
    return head + (data if cut is None else data[:cut])


def problem(status: int, detail: str, *, word: str = "input", **more: Any) -> bytes:
    """Return a problem as our servers tell of one."""
    body = {"type": f"urn:stretto:problem:{word}", "title": "No", "status": status, "detail": detail, **more}
    return answer(status, body, media_type="application/problem+json")


def events(*records: tuple[str | None, Any], end: bool = True) -> bytes:
    """Return a stream of server-sent events (id, data); without `end` the server hangs up in the middle of one."""
    text = "".join(f"id: {number}\ndata: {json.dumps(data)}\n\n" for number, data in records)
    text += "event: end\ndata: {}\n\n" if end else 'id: 999\ndata: {"half'
    data = text.encode()
    chunks = f"{len(data):x}\r\n".encode() + data + b"\r\n" + (b"0\r\n\r\n" if end else b"")
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    )
    return head + chunks
