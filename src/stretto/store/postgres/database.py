"""One PostgreSQL database: how it is named, connected to, and asked again when the server went away for a while."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolClosed

from stretto.core.errors import SettingsError, StoreError
from stretto.store.postgres.failure import is_away, is_conflict, store_error

T = TypeVar("T")
Connection = AsyncConnection[tuple[Any, ...]]

CONNECT_TIMEOUT_S: Final = 10
STATEMENT_TIMEOUT_S: Final = 60
"""Ours take milliseconds; the deletion of a large run perhaps some seconds."""
ANSWER_TIMEOUT_S: Final = STATEMENT_TIMEOUT_S + 15.0
"""After this the way to the server is broken, since it would have ended the statement itself."""
_RECONNECT_S: Final = 1.0
"""How long the pool tries by itself, ever more seldom. The tries of those who want a connection come more often."""
_PAUSE_S: Final = (0.02, 1.0)
"""The first and the longest pause between two tries."""

_ARGUMENTS: Final[dict[str, Any]] = {
    "application_name": "stretto",
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds without an acknowledgement
}
_OPTIONS: Final = (
    "-c synchronous_commit=on"
    f" -c statement_timeout={STATEMENT_TIMEOUT_S}s"
    " -c jit=off"  # takes 200 ms for a statement of 4 ms, where its estimate is bad
    " -c lock_timeout=30s -c idle_in_transaction_session_timeout=60s"
)
"""What every session sets, unless the URL says otherwise."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long calls wait for a server that is away, in seconds.

    `commit_s` counts for commits of a claimed run: long enough for a restart or fail-over, as what its jobs did can't be had
    again. Whether the run is still its owner's then is for the lease and the fence to say.
    """

    call_s: float = 10.0
    commit_s: float = 90.0


def mask_url(url: str) -> str:
    """Return the URL without its password, to be shown."""
    return _shown(_arguments(url))


def _shown(arguments: dict[str, Any]) -> str:
    host = arguments.get("host") or "localhost"
    user = f"{arguments['user']}@" if arguments.get("user") else ""
    return f"postgresql://{user}{host}:{arguments.get('port') or 5432}/{arguments.get('dbname') or ''}"


def _arguments(url: str) -> dict[str, Any]:
    """Return what the URL says; SettingsError, which does not quote it, as it may hold a password."""
    try:
        if urlsplit(url).scheme not in ("postgresql", "postgres"):
            raise SettingsError("the database must be given as a URL", hint="postgresql://user@host:5432/database")
        return dict(conninfo_to_dict(url))
    except (psycopg.ProgrammingError, ValueError) as error:
        raise SettingsError(
            "the URL of the database can't be understood", hint="postgresql://user@host:5432/database"
        ) from error


class Database:
    """Connections to the database at `url`, and a pool of them for short calls. Used by the tasks of one event loop."""

    def __init__(self, url: str, *, connections: int = 8, patience: Patience | None = None) -> None:
        given = _arguments(url)
        options = f"{_OPTIONS} {given.get('options') or ''}".strip()
        self._conninfo = make_conninfo(**{**_ARGUMENTS, **given, "options": options})
        self.place = f"the database {_shown(given)}"
        self.patience = patience or Patience()
        self._pool = AsyncConnectionPool[Connection](
            self._conninfo,
            kwargs={"autocommit": True},
            min_size=1,
            max_size=connections,
            timeout=CONNECT_TIMEOUT_S,
            reconnect_timeout=_RECONNECT_S,
            open=False,
        )

    async def open(self) -> None:
        """Let the pool connect."""
        await self._pool.open()

    async def close(self) -> None:
        """Let go of the pool. May be called again."""
        await self._pool.close()

    async def connect(self) -> Connection:
        """Return a connection of one's own, in autocommit mode; the error is psycopg's."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await AsyncConnection.connect(self._conninfo, autocommit=True)

    async def connect_or_fail(self) -> Connection:
        """Return a connection of one's own; StoreError."""
        try:
            return await self.connect()
        except (psycopg.Error, OSError) as error:
            raise self.error(error) from error

    async def connect_again(self, prepare: Callable[[Connection], Awaitable[None]]) -> Connection:
        """Return a connection of one's own for which `prepare` was done, however long the server is away."""
        retry = Retry(float("inf"))
        while True:
            connection = None
            try:
                connection = await self.connect()
                await prepare(connection)
                return connection
            except (psycopg.Error, OSError) as error:
                if connection is not None:
                    await connection.close()
                if not await retry.pause_after(error):
                    await asyncio.sleep(_PAUSE_S[1])

    async def call(self, act: Callable[[Connection], Awaitable[T]], *, patience_s: float | None = None) -> T:
        """Return what `act`, which may be repeated, does over a connection of the pool; StoreError, and what `act` raises.

        It is repeated while the server is away, or another transaction is in the way, for `patience_s` (None: as long as a
        call is patient).
        """
        retry = Retry(self.patience.call_s if patience_s is None else patience_s)
        while True:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S), self._pool.connection(retry.left_s()) as connection:
                    return await act(connection)
            except PoolClosed as error:
                raise StoreError(f"{self.place} is closed") from error
            except (psycopg.Error, OSError) as error:
                if not await retry.pause_after(error):
                    raise self.error(error) from error
                if is_away(error):
                    await self._drop_broken()

    async def _drop_broken(self) -> None:
        """Let the pool find out which of its idle connections are broken: as a rule all, when one was."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._pool.check()
        except (psycopg.Error, OSError):
            pass  # the next try finds out

    def error(self, error: Exception) -> StoreError:
        """Return the StoreError that says what the error means."""
        return store_error(self.place, error)


class Retry:
    """Pauses that grow, until `patience_s` from now."""

    def __init__(self, patience_s: float) -> None:
        self._deadline = asyncio.get_running_loop().time() + patience_s
        self._pause_s = _PAUSE_S[0]

    def left_s(self) -> float:
        """Return how long to wait yet; a little even where no time is left, as the first try may be the last one."""
        return max(0.1, self._deadline - asyncio.get_running_loop().time())

    async def pause_after(self, error: Exception) -> bool:
        """Wait for a better moment; False at once where it is no use to try again, or no time is left."""
        passing = is_away(error) or is_conflict(error)
        if not passing or asyncio.get_running_loop().time() + self._pause_s > self._deadline:
            return False
        await asyncio.sleep(self._pause_s * random.uniform(0.5, 1.0))
        self._pause_s = min(self._pause_s * 2, _PAUSE_S[1])
        return True
