"""Everything that conductors and API servers share in one PostgreSQL database, opened and closed together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from stretto.store.postgres.blobs import PostgresBlobs
from stretto.store.postgres.database import Database
from stretto.store.postgres.logs import PostgresLogs
from stretto.store.postgres.store import PostgresStore

_CONNECTIONS: Final = 6
"""For logs and blobs, apart from the store's: who downloads must not keep a run from going on."""


@dataclass(frozen=True, slots=True)
class Storage:
    """The parts, as ports of the core."""

    store: PostgresStore
    logs: PostgresLogs
    blobs: PostgresBlobs


@asynccontextmanager
async def open_storage(url: str, *, wait_s: float = 0.0) -> AsyncIterator[Storage]:
    """Open all; SchemaError where the tables are not this version's, StoreError where the database can't be had in `wait_s`."""
    store = await PostgresStore.open(url, wait_s=wait_s)
    try:
        database = Database(url, connections=_CONNECTIONS)
        try:
            await database.open()
            logs = PostgresLogs(database)
            try:
                yield Storage(store, logs, PostgresBlobs(database))
            finally:
                await logs.close()
        finally:
            await database.close()
    finally:
        await store.close()
