"""What a server does by itself beside answering and conducting: schedules, and statuses of commits. In every process of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stretto.service import Service
from stretto.settings import Settings
from stretto.triggers.schedule import Scheduler
from stretto.triggers.status import StatusReporter
from stretto.wiring import SystemClock


@asynccontextmanager
async def triggering(service: Service, settings: Settings) -> AsyncIterator[None]:
    """Run schedules and report statuses meanwhile. What is cut off at the end is taken up by the next process."""
    store, clock = service.means.store, SystemClock()
    reporter = StatusReporter(store, clock, home=settings.home, server_url=settings.api.public_url)
    tasks = [
        asyncio.create_task(Scheduler(store.tables, service.accept, clock).serve(), name="schedules"),
        asyncio.create_task(reporter.serve(), name="commit statuses"),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
