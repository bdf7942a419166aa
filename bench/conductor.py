"""A server's conductor, in a process of its own, whose jobs happen in memory: what is measured is Stretto and its database.

Settings come from STRETTO_* variables. Says `ready`, begins with a line of standard input; SIGTERM drains it. The driver is
put in here and nowhere else: nobody can ask for it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from dataclasses import replace

from stretto.doors.cli.options import COLLECT_EVERY
from stretto.doors.server import journal
from stretto.drivers.fake import FakeDriver, FakeWorld
from stretto.engine.slots import Slots
from stretto.engine.worker import Terms, Worker
from stretto.settings import Settings, load
from stretto.wiring import SystemClock, open_server


async def conduct(settings: Settings) -> None:
    """Conduct what the store has until SIGTERM comes."""
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    driver = FakeDriver(FakeWorld(), SystemClock(), prepares=False)
    async with open_server(settings) as (service, _):
        means = replace(service.means, driver=lambda name: driver)
        terms = Terms(settings.conductor.place or means.place, settings.conductor.runs)
        worker = Worker(means, Slots(settings.jobs), terms, owner=f"bench/{os.getpid()}", reap=_nothing)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        running = asyncio.create_task(worker.run(), name="worker")
        await terminated.wait()
        await worker.drain()
        await running


async def _nothing() -> int:
    return 0


if __name__ == "__main__":
    gc.set_threshold(*COLLECT_EVERY)
    journal.install("plain", verbose=False, quiet=True)
    asyncio.run(conduct(load()))
