"""An attempt's standard streams while this process is attached to it: the gate is its input, the log its output.

The output is read ahead into bounded memory. While someone reads it, a full memory holds the job up (the engine's pipe fills);
while nobody does, it is let go of, so that no job hangs on an unread log; the engine's own log has it all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Final

from stretto.core.errors import EngineUnavailableError
from stretto.core.ports import LogChunk
from stretto.drivers.docker.transport import Hijacked
from stretto.drivers.docker.wrapper import GATE_LINE

BUFFER_BYTES: Final = 1024 * 1024
"""Output kept for a reader that is slower than the job. One MiB: a hundred jobs then cost 100 MiB at the very most."""
HEADER_BYTES: Final = 8


class Demultiplexer:
    """Takes the engine's framing away: 8 bytes (stream, 3 zeros, length as big-endian), then the payload.

    Source: Docker Engine API, "Attach to a container", stream format.
    """

    def __init__(self) -> None:
        self._header = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """Return the payload in `data`."""
        pieces = []
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
                continue
            part = data[at : at + HEADER_BYTES - len(self._header)]
            self._header += part
            at += len(part)
            if len(self._header) == HEADER_BYTES:
                if self._header[0] > 3 or self._header[1:4] != b"\0\0\0":
                    raise EngineUnavailableError("the Docker engine's output stream has no frame where one must be")
                self._left = int.from_bytes(self._header[4:], "big")
                self._header = b""
        return b"".join(pieces)


class Output:
    """One attached attempt. `ended` is set when the stream is over or was let go of; `intact` says whether it gave all it had."""

    def __init__(self, stream: Hijacked, name: str) -> None:
        self.ended = asyncio.Event()
        self.intact = True
        self.from_start = False
        """Whether the gate was still closed when the stream was there, so that nothing came before it."""
        self._stream = stream
        self._chunks: deque[LogChunk] = deque()
        self._size = 0
        self._start = 0
        """Position of the first byte in `_chunks`."""
        self._claimed = False
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._pump = asyncio.create_task(self._read_ahead(), name=f"output of {name}")

    async def open_gate(self) -> None:
        """Let the script run. May be repeated: only the first line counts."""
        await self._stream.write(GATE_LINE)

    def can_give(self, position: int) -> bool:
        """Whether `read` can go on at `position`."""
        return self.from_start and self.intact and not self._claimed and self._start == position

    async def read(self) -> AsyncGenerator[LogChunk, None]:
        """Yield what comes, from where the last reader stopped, until the stream is over. One reader at a time."""
        self._claimed = True
        try:
            while True:
                while self._chunks:
                    chunk = self._chunks.popleft()
                    self._size -= len(chunk.data)
                    self._start = chunk.position
                    self._taken.set()
                    yield chunk
                if self.ended.is_set():
                    return
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            self._claimed = False
            self._taken.set()

    async def close(self) -> None:
        """Let go of the stream; the attempt goes on."""
        if not self.ended.is_set():
            self.intact = False
        self._pump.cancel()
        await asyncio.wait({self._pump})

    async def _read_ahead(self) -> None:
        frames = Demultiplexer()
        position = 0
        try:
            while data := await self._stream.read():
                if payload := frames.feed(data):
                    position += len(payload)
                    self._chunks.append(LogChunk(datetime.now(UTC), payload, position))
                    self._size += len(payload)
                    self._arrived.set()
                while self._size >= BUFFER_BYTES:
                    if not self._claimed:
                        self.intact = False
                        return
                    self._taken.clear()
                    await self._taken.wait()
        except EngineUnavailableError:
            self.intact = False  # the reader goes on with the engine's own log, and meets the fault there if it lasts
        finally:
            self._stream.close()
            self.ended.set()
            self._arrived.set()
