"""A conductor process that takes submissions from a queue until it is killed.

`python -m tests.support.consumer URL NAME STORE LOG`: NAME starts the queues' names. Each definition is a line in LOG, as is
each refusal to define a run twice.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from stretto.core.errors import StoreError
from stretto.doors.amqp.consumer import Consumer, Pace
from stretto.doors.amqp.outbox import Outbox, Rhythm
from stretto.doors.amqp.publisher import Publisher
from stretto.doors.amqp.topology import Names
from stretto.store.sqlite import SqliteStore
from tests.support.queue import StoreWork


class LoggedWork(StoreWork):
    """Work that leaves a line for each definition."""

    log: int

    async def take(self, run_id: str) -> None:
        """See `consumer.Work`."""
        before = self.defined.get(run_id, 0)
        try:
            await super().take(run_id)
        except StoreError as error:
            if "defined already" in error.message:
                os.write(self.log, f"twice {run_id}\n".encode())
            raise
        if self.defined.get(run_id, 0) > before:
            os.write(self.log, f"defined {run_id}\n".encode())
            self.end(1)  # these runs have no jobs to wait for


async def main(url: str, name: str, store_path: str, log_path: str) -> None:
    """Conduct until killed."""
    store = await SqliteStore.open(Path(store_path))
    work = LoggedWork(store, owner=f"conductor {os.getpid()}")
    work.log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    names = Names(f"{name}.submissions", f"{name}.dead")
    publisher = Publisher(url, names=names)
    consumer = Consumer(url, publisher, work, names=names, prefetch=8, pace=Pace(first_pause_s=0.05))
    outbox = Outbox(store, publisher, rhythm=Rhythm(every_s=0.5, untold_s=1.0, again_s=3.0))
    async with asyncio.TaskGroup() as group:
        for run in (publisher.run, consumer.run, outbox.run):
            group.create_task(run())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
