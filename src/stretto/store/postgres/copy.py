"""Moving house: all that an embedded store has, laid down in an empty PostgreSQL schema, numbers and ids as they were."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator, Sequence
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

TABLES: Final = (
    *("run", "spec", "submission", "event", "job", "attempt", "artifact", "request"),
    *("token", "audit", "hook", "delivery", "schedule", "forge", "status_cursor", "status_run", "status_outbox"),
)
"""What is copied, tables that others refer to first."""
LEFT: Final = ("migration", "worker", "upload")
"""What is not: nobody holds a run in the new place, and the packs of uploads are files of the home, as logs and artifacts are."""

_LEFT_COLUMNS: Final = {("run", "held"), ("audit", "id")}
"""Entries of the audit get new numbers: the new place may have some already, of the token that was made for it."""
_EMPTY: Final = ("run", "hook", "schedule", "forge")
"""What must not be there yet."""
_NUMBERED: Final = {"run": "number", "request": "id"}
_BOOLEANS: Final = frozenset({"executable"})
_LOCK_TIMEOUT_S: Final = 30.0
_PAGE: Final = 1000
"""Rows that are read at once."""


async def copy(source: Path, url: str) -> dict[str, int]:
    """Copy the SQLite store at `source` into the database at `url`, whole or not at all; return how many rows of each table.

    The source is locked meanwhile and not changed. SchemaError where either is of another version, RunBusyError while a live
    process holds a run of the source, InputError where the target has runs (or what starts them), StoreError.
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
            for table in _EMPTY:
                if await (await connection.execute(f"SELECT FROM {table} LIMIT 1".encode())).fetchone() is not None:
                    raise InputError(
                        f"{database.place} has {table}s already",
                        hint="copy into a new database, or another schema of this one",
                    )
            counts = {table: await _copy_table(old, connection, table) for table in TABLES}
            await connection.execute(
                "UPDATE run SET undefined = true FROM submission WHERE submission.run = run.number"
            )
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
    names = [row[1] for row in old.execute(f"PRAGMA table_info({table})")]
    columns = [name for name in names if (table, name) not in _LEFT_COLUMNS]
    count = 0
    async with connection.cursor() as cursor:
        statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
        async with cursor.copy(statement.encode()) as target:
            pages = _pages(old, table, columns, order=names[0])
            while (page := await asyncio.to_thread(next, pages, None)) is not None:
                for row in page:
                    await target.write_row(row)
                count += len(page)
    return count


def _pages(old: sqlite3.Connection, table: str, columns: Sequence[str], order: str) -> Iterator[list[list[Any]]]:
    """Yield the table's rows by the column `order`, as PostgreSQL can hold them."""
    cursor = old.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}")
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
