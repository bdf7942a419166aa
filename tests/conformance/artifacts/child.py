"""A host that puts files among the blobs of a database: python -m tests.conformance.artifacts.child PLACE FILE…"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path

from .harness import SharedHarness


async def put(place: str, paths: list[Path]) -> None:
    """Put the files, over and over."""
    async with SharedHarness.at(place).open_blobs() as blobs:
        files = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in paths}
        sys.stdout.write("putting\n")
        sys.stdout.flush()
        while True:
            await blobs.put(files)


if __name__ == "__main__":
    asyncio.run(put(sys.argv[1], [Path(argument) for argument in sys.argv[2:]]))
