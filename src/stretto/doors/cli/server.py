"""Which of the two a command talks to: a server, or the state on this host; and with which token.

A server that is named (`--server`, STRETTO_SERVER, the setting) is the one; `none` is none. Where none is named, it is the one
that `stretto serve` runs over the same home, if it answers: its `server.json` says where. Else the command does the work itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stretto.client.credentials import FILE_NAME, OTHERS, read_token
from stretto.client.target import Target, check_token, normalize
from stretto.core.errors import AccessError, InputError, ServerError, SettingsError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from stretto.client.client import Client
    from stretto.settings import Settings
    from stretto.waist import Waist

NO_SERVER: Final = "none"
SERVER_FILE: Final = "server.json"
GREET_S: Final = 5.0
"""How long a server that can't be reached at first is tried: one that is restarted comes back, a wrong URL is told soon."""
KNOCK_S: Final = 0.5
"""How long the port of a local server may take to open: it is on this host."""


@asynccontextmanager
async def open_waist(settings: Settings) -> AsyncIterator[Waist]:
    """Give what the command is to talk to."""
    async with AsyncExitStack() as stack:
        if (client := await _enter_server(settings, stack)) is not None:
            yield client
            return
        from stretto.wiring import open_service

        yield await stack.enter_async_context(open_service(settings))


async def _enter_server(settings: Settings, stack: AsyncExitStack) -> Client | None:
    """Return the server to talk to, open; None where there is none."""
    if settings.server == NO_SERVER:
        return None
    if settings.server:
        url = normalize(settings.server)
        return await stack.enter_async_context(open_server(Target(url, find_token(url))))
    here = _local_server(settings.home)
    if here is None or not await _listens(here):
        return None
    try:
        client = await stack.enter_async_context(open_server(here, greet_s=0.0))
        await client.verify()
    except (AccessError, ServerError):
        return None  # another program has its port by now
    return client


def open_server(target: Target, *, greet_s: float | None = None) -> AbstractAsyncContextManager[Client]:
    """Return a server's waist, to be entered; SettingsError where what it takes is not installed."""
    try:
        from stretto.client.client import open_client
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "httpx2":
            raise
        raise SettingsError(
            "to talk to a server, Stretto needs its extra `client`", hint="pip install 'stretto[client]'"
        ) from error
    return open_client(target, greet_s=GREET_S if greet_s is None else greet_s)


def credentials_file() -> Path:
    """Return where tokens are kept."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "stretto" / FILE_NAME


def find_token(url: str) -> str | None:
    """Return the token for a server: that of STRETTO_TOKEN, else the one of `stretto login`."""
    if given := os.environ.get("STRETTO_TOKEN"):
        return check_token(given)
    return read_token(credentials_file(), url)


def _local_server(home: Path) -> Target | None:
    """Return the server that says it runs over this home; only what nobody else can have written is believed."""
    try:
        with (home / SERVER_FILE).open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(status.st_mode) & OTHERS:
                return None
            said = json.load(file)
        return Target(normalize(said["url"]), check_token(said["token"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, InputError):
        return None


async def _listens(target: Target) -> bool:
    """Say whether something takes connections there; a file that is left over costs no HTTP library."""
    try:
        async with asyncio.timeout(KNOCK_S):
            _, writer = await asyncio.open_connection(*target.address)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
