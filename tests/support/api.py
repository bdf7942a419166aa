"""The REST application in this process, over a home of its own, with tokens of every kind."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx2
from fastapi import FastAPI

from stretto.access.audit import Entry
from stretto.access.gate import Gate, open_gate
from stretto.access.principal import Scope
from stretto.doors.rest.app import build
from stretto.doors.rest.deps import Door
from stretto.doors.rest.metrics import Metrics
from stretto.doors.server.serve import BareServer, config
from stretto.engine.worker import Worker
from stretto.service import Service
from stretto.settings import Settings
from stretto.wiring import open_server

T = TypeVar("T")


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


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that listens in a thread of this process. `ask` runs something in its loop."""

    url: str
    server: Server
    loop: asyncio.AbstractEventLoop

    def ask(self, what: Coroutine[Any, Any, T]) -> T:
        """Return what the coroutine returns."""
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(60)


@contextmanager
def listening(settings: Settings, *, failures_per_minute: int = 20) -> Iterator[Listening]:
    """Give the application behind a real socket, so that clients may block."""
    begun: Future[Listening] = Future()
    stop = threading.Event()

    async def serve() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with open_api(settings, failures_per_minute=failures_per_minute) as server:
                http = BareServer(config(server.app, settings.api, tls=False))
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                serving = asyncio.create_task(http.serve(sockets=[listener]))
                begun.set_result(Listening(url, server, asyncio.get_running_loop()))
                await asyncio.to_thread(stop.wait)
                server.door.closing.set()
                http.should_exit = True
                await serving

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if not begun.done():
                begun.set_exception(error)
            raise

    thread = threading.Thread(target=run, name="server of tests")
    thread.start()
    try:
        yield begun.result(60)
    finally:
        stop.set()
        thread.join(60)


@asynccontextmanager
async def open_api(settings: Settings, *, failures_per_minute: int = 20) -> AsyncIterator[Server]:
    """Give the application over the settings' home; its conductor does nothing unless it is told to."""
    time = Time()
    async with (
        open_server(settings) as (service, worker),
        open_gate(
            service.means.store.tables,
            rate_per_minute=settings.api.rate_per_minute,
            failures_per_minute=failures_per_minute,
            now=time.now,
            now_s=time.now_s,
        ) as gate,
    ):
        door = Door(service, gate, settings, service.means.store.tables, Metrics(slots=worker.usage))
        yield Server(build(door), door, service, worker, gate, time)
