"""Moving house: all that an embedded store has, laid down in an empty PostgreSQL schema, numbers and ids as they were."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psycopg

from stretto.core.errors import InputError, RunBusyError, SchemaError, StoreError
from stretto.store import rows
from stretto.store.migration import read_migrations
from stretto.store.owner import Process, is_known_dead
from stretto.store.postgres import schema
from stretto.store.postgres.database import Connection, Database

_TABLES: Final[dict[str, tuple[str, ...]]] = {
    "run": (
        *("number", "id", "idempotency_key", "kind", "name", "status", "reason", "message", "repository", "branch"),
        *("commit_id", "commit_message", "driver", "submitted_by", "created_at", "started_at", "ended_at", "owner"),
        *("fence", "seq", "priority", "place", "retry_of"),
    ),
    "spec": ("run", "body"),
    "submission": ("run", "body", "accepted_at", "published_at"),
    "event": ("run", "seq", "kind", "at", "body"),
    "job": ("run", "job", "name", "stage", "status", "reason", "message", "exit_code", "started_at", "ended_at"),
    "attempt": (
        *("run", "job", "number", "status", "reason", "message", "exit_code", "starting_at", "started_at", "ended_at"),
        "handle",
    ),
    "artifact": ("run", "job", "attempt", "path", "size_bytes", "digest", "executable", "link"),
    "request": ("id", "run", "kind", "body", "asked_at"),
    "hook": (
        *(
            "id",
            "kind",
            "repository",
            "secret",
            "events",
            "branches",
            "paths",
            "pipelines",
            "file",
            "variables",
            "driver",
        ),
        *("priority", "enabled", "created_by", "created_at"),
    ),
    "delivery": ("hook", "key", "id", "event", "branch", "commit_id", "sender", "ignored", "runs", "received_at"),
    "schedule": (
        *(
            "id",
            "cron",
            "zone",
            "repository",
            "branch",
            "pipelines",
            "file",
            "variables",
            "driver",
            "priority",
            "enabled",
        ),
        *("created_by", "created_at", "next_at", "last_at", "last_runs"),
    ),
    "forge": ("host", "kind", "api_url", "token", "token_env", "token_file", "every_run", "created_at"),
    "status_cursor": ("id", "number"),
    "status_run": ("run", "host", "path", "seen", "finished"),
    "status_outbox": (
        *("host", "path", "commit_id", "context", "run", "seq", "state", "wanted_at", "due_at", "tries", "claim"),
        *("claimed_until", "settled", "error"),
    ),
}
"""What is copied, tables that others refer to first. Claims and leases are not: nobody holds a run in the new place."""

_NUMBERED: Final = {"run": "number", "request": "id"}
_BOOLEANS: Final = frozenset({"executable"})
_LOCK_TIMEOUT_S: Final = 30.0
_PAGE: Final = 1000
"""Rows that are read at once."""


async def copy(source: Path, url: str) -> dict[str, int]:
    """Copy the SQLite store at `source` into the database at `url`, whole or not at all; return how many rows of each table.

    The source is locked meanwhile and not changed. SchemaError where either is of another version, RunBusyError while a live
    process holds a run of the source, InputError where the target has runs, StoreError.
    """
    if not source.is_file():
        raise InputError(f"there is no store at {source}")
    database = Database(url)
    connection = await database.connect_or_fail()
    try:
        return await _copy(source, database, connection)
    except psycopg.Error as error:
        raise database.error(error) from error
    except sqlite3.Error as error:
        raise StoreError(f"{source}: {error}") from error
    finally:
        await connection.close()


async def _copy(source: Path, database: Database, connection: Connection) -> dict[str, int]:
    await schema.check(connection, database.place)
    with closing(await asyncio.to_thread(_open, source)) as old:
        async with connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = 0")  # as long as it takes
            await connection.execute("LOCK TABLE run IN EXCLUSIVE MODE")
            if await (await connection.execute("SELECT FROM run LIMIT 1")).fetchone() is not None:
                raise InputError(
                    f"{database.place} has runs already", hint="copy into a new database, or another schema of this one"
                )
            counts = {table: await _copy_table(old, connection, table) for table in _TABLES}
            for table, column in _NUMBERED.items():
                await _set_sequence(old, connection, table, column)
    return counts


def _open(source: Path) -> sqlite3.Connection:
    """Open the source and keep others from writing to it; refuse one that is of another version or at work."""
    connection = sqlite3.connect(
        f"{source.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=_LOCK_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("BEGIN IMMEDIATE")
        wanted = {step.number: step.checksum for step in read_migrations("sqlite")}
        if dict(connection.execute("SELECT number, checksum FROM migration")) != wanted:
            raise SchemaError(
                f"{source} is not of this version of Stretto",
                hint="bring it up to date: run `stretto runs` on its home",
            )
        holders = connection.execute(
            "SELECT run.number, host, realm, pid, process_start FROM run JOIN worker USING (owner)"
            " WHERE run.held AND worker.lease_until > ?",
            (time.time_ns() // 1_000,),
        )
        for number, *process in holders:
            if not is_known_dead(Process(*process)):
                raise RunBusyError(
                    f"run {number} is under way (host {process[0]}, process {process[2]})",
                    hint="wait until it is over, or cancel it",
                )
    except BaseException:
        connection.close()
        raise
    return connection


async def _copy_table(old: sqlite3.Connection, connection: Connection, table: str) -> int:
    columns = _TABLES[table]
    count = 0
    async with connection.cursor() as cursor:
        statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
        async with cursor.copy(statement.encode()) as target:
            pages = _pages(old, table, columns)
            while (page := await asyncio.to_thread(next, pages, None)) is not None:
                for row in page:
                    await target.write_row(row)
                count += len(page)
    return count


def _pages(old: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> Iterator[list[list[Any]]]:
    """Yield the table's rows, as PostgreSQL can hold them."""
    cursor = old.execute(f"SELECT {', '.join(columns)} FROM {table}")
    while page := cursor.fetchmany(_PAGE):
        yield [[_value(name, value) for name, value in zip(columns, row, strict=True)] for row in page]


def _value(column: str, value: Any) -> Any:
    if column in _BOOLEANS:
        return bool(value)
    return rows.text(value) if isinstance(value, str) else value


async def _set_sequence(old: sqlite3.Connection, connection: Connection, table: str, column: str) -> None:
    """Let numbers go on where they stood: those of rows that were deleted are not used again."""
    row = old.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    if row is not None and row[0] > 0:
        await connection.execute("SELECT setval(pg_get_serial_sequence(%s, %s), %s)", (table, column, row[0]))
