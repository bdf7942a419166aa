"""Tells forges how commits fared: the loop that notices, sends, and tries again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, Protocol

import httpx2

from stretto.core.errors import SettingsError
from stretto.core.ports import Clock, Tables
from stretto.triggers.forge import Call, Forge, call_of
from stretto.triggers.forge_table import ForgeTable
from stretto.triggers.notice import Notice
from stretto.triggers.outbox import Outbox, Posting

log = logging.getLogger(__name__)

AT_ONCE: Final = 16
"""Statuses on their way at once: enough that a forge which does not answer does not keep the others waiting for long."""
TIMEOUT_S: Final = 15.0
"""For a status in all, and half of it for each step of the connection."""
BREATH_S: Final = 1.0
"""Between two looks at runs, which change many times a second on a busy server."""
LOOK_S: Final = 30.0
PRUNE_S: Final = 3600.0
RETRY_S: Final = 5.0
LONGEST_WAIT_S: Final = 3600.0
"""The longest that a forge may ask to be left alone for."""
_SHOWN: Final = 200


class Changes(Protocol):
    """What is needed of a store besides its tables."""

    tables: Tables

    async def wait_for_change(self, timeout_s: float) -> bool:
        """See `core.ports.Store`."""


class StatusReporter:
    """Sends commit statuses. One in each process that serves an API or conducts; `serve` goes on until it is cancelled.

    `home` is where files with tokens are, `server_url` where people reach this server (empty: statuses have no link).
    """

    def __init__(self, store: Changes, clock: Clock, *, home: Path, server_url: str = "") -> None:
        self._store = store
        self._clock = clock
        self._home = home
        self._server_url = server_url
        self._forges = ForgeTable(store.tables)
        self._notice = Notice(store.tables, clock)
        self._outbox = Outbox(store.tables, clock)

    async def serve(self) -> None:
        """Notice and send, for ever. A store that fails is asked again."""
        pruned_at: datetime | None = None
        async with open_client() as client:
            while True:
                try:
                    await self.sweep()
                    while await self.send_due(client):
                        pass
                    now = self._clock.now()
                    if pruned_at is None or (now - pruned_at).total_seconds() > PRUNE_S:
                        pruned_at = now
                        await self._notice.prune()
                    await asyncio.sleep(BREATH_S)
                    await self._store.wait_for_change(await self._pause_s())
                except Exception:
                    log.warning("commit statuses could not be looked through", exc_info=True)
                    await asyncio.sleep(RETRY_S)

    async def sweep(self) -> None:
        """Bring the outbox up to date with the runs."""
        await self._notice.sweep({forge.host: forge for forge in await self._forges.read_all()})

    async def send_due(self, client: httpx2.AsyncClient) -> int:
        """Send some of what is due, and return how many were tried."""
        forges = {forge.host: forge for forge in await self._forges.read_all()}
        postings = await self._outbox.take(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for posting in postings:
                group.create_task(self._send(client, forges, posting), name=f"status {posting.report.commit[:12]}")
        return len(postings)

    async def _send(self, client: httpx2.AsyncClient, forges: Mapping[str, Forge], posting: Posting) -> None:
        forge = forges.get(posting.host)
        if forge is None:
            await self._outbox.settle(posting, "the forge is not known any more")
            return
        try:
            token = await asyncio.to_thread(forge.read_token, self._home)
        except SettingsError as error:
            log.error("a forge has no token", extra={"forge": forge.host, "error": error.message})
            await self._outbox.postpone(posting, error.message)
            return
        call = call_of(forge, posting.report, token=token, server_url=self._server_url)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                response = await _post(client, call)
        except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            await self._outbox.postpone(posting, _shown(f"{type(error).__name__}: {error}", token))
            return
        await self._note(posting, forge, response, token)

    async def _note(self, posting: Posting, forge: Forge, response: httpx2.Response, token: str) -> None:
        status, text = response.status_code, _shown(response.text, token)
        told = f"{status}: {text}"
        if status < 300 or (forge.kind == "gitlab" and status == 400 and "Cannot transition status" in text):
            await self._outbox.settle(posting)  # GitLab refuses a state that the commit is in already
        elif is_temporary(response):
            await self._outbox.postpone(posting, told, pause_s=wait_of(response, self._clock.now()))
        else:
            log.error("a forge refused a commit status", extra={"forge": forge.host, "status": status, "error": text})
            await self._outbox.settle(posting, told)

    async def _pause_s(self) -> float:
        due_at = await self._outbox.due_at()
        if due_at is None:
            return LOOK_S
        return min(max((due_at - self._clock.now()).total_seconds(), 0.0), LOOK_S)


@asynccontextmanager
async def open_client() -> AsyncIterator[httpx2.AsyncClient]:
    """Open the client that statuses are sent with. It follows no redirect: a token goes where it was meant to go."""
    timeout = httpx2.Timeout(TIMEOUT_S / 2)
    async with httpx2.AsyncClient(follow_redirects=False, timeout=timeout) as client:
        yield client


def is_temporary(response: httpx2.Response) -> bool:
    """Say whether the same request may succeed later. GitHub says 403 too where it is asked too often."""
    status = response.status_code
    if status == 403:
        return "retry-after" in response.headers or response.headers.get("x-ratelimit-remaining") == "0"
    return status >= 500 or status in (408, 425, 429)


def wait_of(response: httpx2.Response, now: datetime) -> float | None:
    """Return for how many seconds the forge wants to be left alone; None if it does not say."""
    told = response.headers.get("retry-after", "")
    reset = response.headers.get("x-ratelimit-reset", "")
    seconds: float | None = None
    if told.isascii() and told.isdigit():
        seconds = float(told)
    elif told:
        try:
            seconds = parsedate_to_datetime(told).timestamp() - now.timestamp()
        except (ValueError, TypeError):
            seconds = None
    elif response.headers.get("x-ratelimit-remaining") == "0" and reset.isascii() and reset.isdigit():
        seconds = float(reset) - now.timestamp()
    return None if seconds is None else min(max(seconds, 1.0), LONGEST_WAIT_S)


async def _post(client: httpx2.AsyncClient, call: Call) -> httpx2.Response:
    """Send the request and read no more of the answer than is looked at."""
    async with client.stream("POST", call.url, headers=dict(call.headers), json=dict(call.json)) as response:
        read = b""
        async for chunk in response.aiter_bytes():
            read += chunk
            if len(read) > _SHOWN * 4:
                break
        headers = [(k, v) for k, v in response.headers.multi_items() if k not in ("content-encoding", "content-length")]
        return httpx2.Response(response.status_code, headers=headers, content=read)


def _shown(text: str, token: str) -> str:
    """Return foreign text as it may be kept: short, on one line, without the token."""
    text = " ".join(text.replace(token, "***").split())
    return "".join(character for character in text if character.isprintable())[:_SHOWN]
