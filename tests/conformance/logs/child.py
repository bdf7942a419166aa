"""A process that writes a log until it is killed: python -m tests.conformance.logs.child KIND PLACE SIZE

What it writes is known beforehand (`content`), so that whoever killed it can tell whether anything is missing or there twice.
"""

from __future__ import annotations

import asyncio
import random
import sys
from datetime import UTC, datetime

from stretto.core.ports import LogChunk
from stretto.core.spec import AttemptKey

from .harness import HARNESSES

KEY = AttemptKey("run1", "job", 1)


def content(size: int) -> bytes:
    """Return what the log of that many bytes says."""
    return random.Random(7).randbytes(size)


async def write(kind: str, place: str, size: int) -> None:
    """Write on where the log ends, in chunks of all sizes, and complete it."""
    whole = content(size)
    async with HARNESSES[kind].at(place).open() as logs:
        writer = await logs.open(KEY)
        sys.stdout.write(f"{writer.position}\n")
        sys.stdout.flush()
        while writer.position < size:
            data = whole[writer.position :][: random.choice((1, 100, 5_000, 70_000))]
            await writer.append(LogChunk(datetime.now(UTC), data, writer.position + len(data)))
            await asyncio.sleep(random.choice((0, 0, 0.001)))
        await writer.close()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2], int(sys.argv[3])))
