"""Answers that are sent as they come: bytes, and server-sent events.

A slow reader holds back its own source and nothing else: no chunk is read before the one before it went out. A reader that goes
away ends the source, wherever it waits.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

HEARTBEAT_S: Final = 15.0
"""Silence after which a comment is sent: proxies close what is silent, and a client that is gone is noticed."""
SSE: Final = "text/event-stream"


class Stream(Response):
    """An answer made of chunks. `length` None means that it is not known how many bytes there will be."""

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        status: int = 200,
        length: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._chunks = chunks
        self.status_code = status
        self.media_type = media_type
        self.background = None
        self.body = b""
        self.init_headers({**(headers or {}), **({} if length is None else {"content-length": str(length)})})
        if length is None and "content-length" in self.headers:
            del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it, or until the reader is gone."""
        sending = asyncio.create_task(self._send(send), name="send stream")
        leaving = asyncio.create_task(_left(receive), name="watch reader")
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        async with aclosing(self._chunks) as chunks:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    """Return when the reader is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def record(data: Any, *, event: str | None = None, event_id: int | None = None) -> bytes:
    """Return one server-sent event; `event_id` is what a reader that was cut off comes back with."""
    lines = [] if event is None else [f"event: {event}"]
    if event_id is not None:
        lines.append(f"id: {event_id}")
    lines.append(f"data: {json.dumps(data, separators=(',', ':'))}")
    return ("\n".join(lines) + "\n\n").encode()


async def with_heartbeats(
    source: AsyncGenerator[bytes, None], closing: asyncio.Event, *, every_s: float = HEARTBEAT_S
) -> AsyncGenerator[bytes, None]:
    """Yield what the source yields until `closing` is set, and a comment whenever it was silent for so long."""
    async with aclosing(source):
        ending = asyncio.create_task(closing.wait(), name="end of server")
        coming: asyncio.Task[bytes] | None = None
        try:
            while not closing.is_set():
                if coming is None:
                    coming = asyncio.create_task(_next(source), name="next of stream")
                await asyncio.wait({coming, ending}, timeout=every_s, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    done, coming = coming, None
                    try:
                        chunk = done.result()
                    except StopAsyncIteration:
                        return
                    yield chunk
                elif not closing.is_set():
                    yield b": still here\n\n"
        finally:
            tasks = [ending] if coming is None else [ending, coming]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _next(source: AsyncIterator[bytes]) -> bytes:
    return await anext(source)
