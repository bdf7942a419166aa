"""Runs a server until it is told to end: the API, the conductor, or both in one process."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import uvicorn
from fastapi import FastAPI

from stretto.access.gate import Gate, open_gate
from stretto.core.errors import SettingsError
from stretto.doors.rest.app import bare, build
from stretto.doors.rest.deps import Door
from stretto.doors.rest.metrics import Metrics
from stretto.doors.server.local import announced
from stretto.doors.server.queue import Queue, queueing
from stretto.doors.server.triggering import triggering
from stretto.engine.worker import Worker
from stretto.service import Service
from stretto.settings import Api, Settings
from stretto.wiring import open_server

log = logging.getLogger(__name__)

END_S: Final = 10
"""How long requests that are being answered get at the end; followers are let go at once and come back elsewhere."""
BACKLOG: Final = 1024
HEADER_BYTES: Final = 64 * 1024
KEEP_ALIVE_S: Final = 75
"""Longer than the usual proxy keeps its side open: the one who asks should be the one who hangs up."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a process does of a server's work. A conductor has the routes for who watches it if it was given a port."""

    api: bool
    conducts: bool


ROLES: Final = {"all": Role(True, True), "api": Role(True, False), "conductor": Role(False, True)}


@dataclass(frozen=True, slots=True)
class Parts:
    """What a server is made of."""

    settings: Settings
    role: Role
    service: Service
    worker: Worker
    gate: Gate
    queue: Queue | None
    stop: asyncio.Event


async def serve(
    settings: Settings, role: Role, *, listens: bool = True, insecure: bool = False, said: Callable[[str], None] = print
) -> None:
    """Serve until SIGTERM or SIGINT; `said` is told the URL as soon as it answers. SettingsError, StoreError."""
    if listens:
        refuse_open(settings.api, insecure=insecure)
    stop = asyncio.Event()
    try:
        with _listening(settings.api, listens) as (listener, tls), _signals(stop):
            async with open_server(settings) as (service, worker):
                tables = service.means.store.tables
                async with (
                    open_gate(tables, rate_per_minute=settings.api.rate_per_minute) as gate,
                    _queueing(settings, service, worker if role.conducts else None) as queue,
                    triggering(service, settings),
                ):
                    await _run(Parts(settings, role, service, worker, gate, queue, stop), listener, tls, said)
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(error: BaseException) -> BaseException:
    """Return the error that a group of tasks ended with."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def _queueing(settings: Settings, service: Service, worker: Worker | None) -> AsyncIterator[Queue | None]:
    """Give the queue of the settings, None where there is none."""
    if not settings.queue:
        yield None
        return
    async with queueing(settings, service, worker) as queue:
        yield queue


async def _run(parts: Parts, listener: socket.socket | None, tls: bool, said: Callable[[str], None]) -> None:
    """Run the parts side by side; when one of them fails, all end."""
    async with asyncio.TaskGroup() as group:
        conducting = None
        if parts.role.conducts:
            conducting = group.create_task(parts.worker.run(), name="conductor")
            conducting.add_done_callback(lambda _: parts.stop.set())
        if listener is None:
            log.info("conducting", extra={"place": parts.service.means.place})
            await parts.stop.wait()
        else:
            await _answer(parts, listener, tls, conducting, said)
        log.info("ending")
        await _drain(parts)


async def _drain(parts: Parts) -> None:
    """Let others have the runs of this process; it may be called again."""
    if parts.role.conducts:
        if parts.queue is not None:
            parts.queue.take_no_more()
        await parts.worker.drain()


async def _answer(
    parts: Parts,
    listener: socket.socket,
    tls: bool,
    conducting: asyncio.Task[None] | None,
    said: Callable[[str], None],
) -> None:
    """Answer requests until the server is to end, and those that are open then to their end."""
    store = parts.service.means.store
    door = Door(
        parts.service,
        parts.gate,
        parts.settings,
        store.tables,
        Metrics(slots=parts.worker.usage),
        None if conducting is None else lambda: not conducting.done(),
        None if (queue := parts.queue) is None else lambda: queue.trouble,
    )
    app = build(door) if parts.role.api else bare(door)
    server = BareServer(config(app, parts.settings.api, tls=tls))
    url = _url(listener, tls, parts.settings.api)
    async with asyncio.TaskGroup() as group, _announced(parts, url):
        serving = group.create_task(server.serve(sockets=[listener]), name="http")
        serving.add_done_callback(lambda _: parts.stop.set())
        said(url)
        log.info("serving", extra={"url": url})
        await parts.stop.wait()
        door.closing.set()
        group.create_task(_drain(parts), name="drain")
        server.should_exit = True
        await serving


@asynccontextmanager
async def _announced(parts: Parts, url: str) -> AsyncIterator[None]:
    """Tell the command line of this host, where one process is the whole server."""
    if not (parts.role.api and parts.role.conducts):
        yield
        return
    async with announced(parts.settings.home, url, parts.gate, place=parts.service.means.place):
        yield


class BareServer(uvicorn.Server):
    """Leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def config(app: FastAPI, api: Api, *, tls: bool) -> uvicorn.Config:
    """Return how the application is served: no lifespan, no log and no header of the library's own."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        http="h11",
        ws="none",
        server_header=False,
        proxy_headers=bool(api.proxies),
        forwarded_allow_ips=api.proxies.replace(" ", "") or None,
        ssl_certfile=api.tls_cert if tls else None,
        ssl_keyfile=(api.tls_key or None) if tls else None,
        timeout_graceful_shutdown=END_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=HEADER_BYTES,
        backlog=BACKLOG,
    )


def refuse_open(api: Api, *, insecure: bool) -> None:
    """Refuse to listen where others can hear tokens go by; SettingsError."""
    if api.tls_key and not api.tls_cert:
        raise SettingsError("api.tls_key is set and api.tls_cert is not")
    if api.tls_cert or api.proxies or insecure or _is_loopback(api.host):
        return
    raise SettingsError(
        f"listening on {api.host} without TLS would send tokens over the network for everybody to read",
        hint="set api.tls_cert and api.tls_key; or behind a proxy that has TLS, api.proxies or --insecure",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_tls(api: Api) -> None:
    """Refuse certificate files that can't be used; SettingsError."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(api.tls_cert, api.tls_key or None, password=lambda: "")
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            f"the certificate {api.tls_cert} can't be used: {error.strerror or error}",
            hint="api.tls_cert is a PEM file with the chain, api.tls_key one with its key, which has no password",
        ) from error


@contextmanager
def _listening(api: Api, listens: bool) -> Iterator[tuple[socket.socket | None, bool]]:
    """Give the socket to listen on, bound already, and whether it speaks TLS; SettingsError."""
    if not listens:
        yield None, False
        return
    if api.tls_cert:
        check_tls(api)
    try:
        found = socket.getaddrinfo(api.host, api.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG, reuse_port=False)
    except OSError as error:
        raise SettingsError(
            f"can't listen on {api.host} port {api.port}: {error.strerror or error}",
            hint="set api.host and api.port, or --host and --port",
        ) from error
    listener.setblocking(False)
    # What is accepted inherits this, and asyncio would not set it: or each answer, written in two parts, waits 40 ms for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listener:
        yield listener, bool(api.tls_cert)


def _url(listener: socket.socket, tls: bool, api: Api) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    shown = f"[{shown}]" if ":" in shown else shown
    return f"{'https' if tls else 'http'}://{shown}:{port}{api.root_path.rstrip('/')}"


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT end the server in good order; a second one is left to Python, which ends it at once."""
    loop = asyncio.get_running_loop()
    kinds = (signal.SIGTERM, signal.SIGINT)

    def heard() -> None:
        stop.set()
        for kind in kinds:
            loop.remove_signal_handler(kind)

    for kind in kinds:
        loop.add_signal_handler(kind, heard)
    try:
        yield
    finally:
        for kind in kinds:
            loop.remove_signal_handler(kind)
