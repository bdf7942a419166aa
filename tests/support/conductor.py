"""A conductor in a process of its own, with settings from STRETTO_* variables; SIGTERM drains it."""

from __future__ import annotations

import asyncio
import signal
import sys

from stretto.settings import load
from stretto.wiring import open_server


async def main() -> None:
    """Conduct runs until SIGTERM comes."""
    async with open_server(load()) as (_, worker):
        running = asyncio.create_task(worker.run(), name="worker")
        terminated = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await terminated.wait()
        await worker.drain()
        await running


if __name__ == "__main__":
    asyncio.run(main())
