"""`stretto serve --check`: tries everything that a server needs, and says of each what is wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from stretto.core.errors import SettingsError, StrettoError
from stretto.doors.amqp.probe import probe as probe_queue
from stretto.doors.server.serve import Role, check_tls, refuse_open
from stretto.reports.human import size
from stretto.settings import Settings
from stretto.wiring import open_service

PATIENCE_S: Final = 15.0
"""How long each part gets to answer."""
LOW_BYTES: Final = 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one check; `told` is what was found, or what is wrong, `hint` what to do about it."""

    name: str
    is_good: bool
    told: str
    hint: str | None = None


async def probe(settings: Settings, role: Role, *, insecure: bool) -> list[Finding]:
    """Return the findings, in the order in which a server would need the parts. Starts nothing."""
    checks: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("home", lambda: asyncio.to_thread(_home, settings)),
        ("database", lambda: _database(settings)),
        ("git", _git),
    ]
    if settings.queue:
        checks.append(("queue", lambda: probe_queue(settings.queue)))
    if role.conducts:
        checks.append((f"driver {settings.driver}", lambda: _driver(settings)))
    if role.api:
        checks.append(("listen", lambda: asyncio.to_thread(_listen, settings, insecure)))
    return [await _find(name, check) for name, check in checks]


async def _find(name: str, check: Callable[[], Awaitable[str]]) -> Finding:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return Finding(name, True, await check())
    except TimeoutError:
        return Finding(name, False, f"no answer within {PATIENCE_S:g} s")
    except StrettoError as error:
        return Finding(name, False, error.message, error.hint)


def _home(settings: Settings) -> str:
    home = settings.home
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=home):
            free = shutil.disk_usage(home).free
    except OSError as error:
        raise SettingsError(
            f"can't keep state in {home}: {error.strerror}", hint="set home, or STRETTO_HOME"
        ) from error
    if free < LOW_BYTES:
        raise SettingsError(f"only {size(free)} are free in {home}", hint="make room, or set home")
    return f"{home}, {size(free)} free"


async def _database(settings: Settings) -> str:
    async with open_service(settings) as service:
        runs = await service.means.store.tables.read("SELECT COUNT(*) FROM run")
    return f"{'PostgreSQL' if settings.database else 'SQLite'}, {runs[0][0]} runs"


async def _git() -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            "git", "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=dict(os.environ)
        )
    except OSError as error:
        raise SettingsError(f"git can't be started: {error.strerror}", hint="install git") from error
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise SettingsError(f"git --version ends with {process.returncode}")
    return out.decode(errors="replace").strip()


async def _driver(settings: Settings) -> str:
    async with open_service(settings) as service:
        found = await service.means.driver(settings.driver).orphans()
    return f"it answers and knows {len(found)} attempts of ours"


def _listen(settings: Settings, insecure: bool) -> str:
    api = settings.api
    refuse_open(api, insecure=insecure)
    if api.tls_cert:
        check_tls(api)
    return f"{api.host} port {api.port}, {'TLS' if api.tls_cert else 'no TLS'}"
