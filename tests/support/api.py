"""The REST application in this process, over a home of its own, with tokens of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx2
from fastapi import FastAPI

from stretto.access.audit import Entry
from stretto.access.gate import Gate, open_gate
from stretto.access.principal import Scope
from stretto.doors.rest.app import build
from stretto.doors.rest.deps import Door
from stretto.doors.rest.metrics import Metrics
from stretto.engine.worker import Worker
from stretto.service import Service
from stretto.settings import Settings
from stretto.wiring import open_server


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime(2030, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """Return the time in UTC."""
        return self.moment

    def now_s(self) -> float:
        """Return the time in seconds."""
        return self.moment.timestamp()

    def pass_s(self, seconds: float) -> None:
        """Move on."""
        self.moment += timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Server:
    """The application and what is beneath it."""

    app: FastAPI
    door: Door
    service: Service
    worker: Worker
    gate: Gate
    time: Time

    async def token(
        self, scope: str = "admin", *repositories: str, lasts_s: float | None = None, name: str = ""
    ) -> str:
        """Make a token and return its text."""
        text, _ = await self.gate.register.create(
            name or f"{scope} of tests",
            Scope(scope),
            repositories=repositories,
            expires_at=None if lasts_s is None else self.time.now() + timedelta(seconds=lasts_s),
            by=Entry(self.time.now(), "tests", "token.create"),
        )
        return text

    async def client(self, scope: str | None = "admin", *repositories: str) -> httpx2.AsyncClient:
        """Return a client with a token of this scope; None: without token."""
        headers = {} if scope is None else {"Authorization": f"Bearer {await self.token(scope, *repositories)}"}
        return self.client_with(headers)

    def client_with(self, headers: dict[str, str]) -> httpx2.AsyncClient:
        """Return a client that always sends these headers."""
        transport = httpx2.ASGITransport(app=self.app)
        return httpx2.AsyncClient(transport=transport, base_url="http://server", headers=headers)


@asynccontextmanager
async def open_api(settings: Settings) -> AsyncIterator[Server]:
    """Give the application over the settings' home; its conductor does nothing unless it is told to."""
    time = Time()
    async with (
        open_server(settings) as (service, worker),
        open_gate(
            service.means.store.tables, rate_per_minute=settings.api.rate_per_minute, now=time.now, now_s=time.now_s
        ) as gate,
    ):
        door = Door(service, gate, settings, service.means.store.tables, Metrics())
        yield Server(build(door), door, service, worker, gate, time)
