"""A store, the way runs are accepted into it, and a clock that goes as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stretto.core.ports import RunFilter, RunRow, Store
from stretto.service import Service
from stretto.settings import Settings
from stretto.wiring import open_service
from tests.conformance.stores.harness import HARNESSES


@dataclass
class VirtualClock:
    """Time that passes only while somebody sleeps; `slept` are the naps."""

    at: datetime = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        """Return the time that it is here."""
        return self.at

    async def sleep(self, seconds: float) -> None:
        """Let the time pass, and others have their turn."""
        self.slept.append(seconds)
        self.at += timedelta(seconds=seconds)
        await asyncio.sleep(0)


@dataclass
class Base:
    """A service, its store, and the time that triggers go by."""

    service: Service
    store: Store
    clock: VirtualClock

    async def runs(self) -> list[RunRow]:
        """Return all runs, oldest first."""
        return (await self.store.list_runs(RunFilter(limit=1000)))[::-1]


@pytest.fixture(params=["sqlite"])
async def base(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Base]:
    """An empty state with a service over it, in each kind of store that accepts runs and has `tables`."""
    harness = HARNESSES[request.param](tmp_path)
    store = await harness.open()
    async with open_service(Settings(home=tmp_path / "home", driver="process")) as opened:
        service = Service(replace(opened._parts, store=store))
        yield Base(service, store, VirtualClock())
        await store.close()
    harness.drop()
