"""The tables of a PostgreSQL database: brought up to date when somebody says so, and refused when they are not.

A server never changes them by itself: others may be at work on them with another version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psycopg

from stretto.core.errors import SchemaError
from stretto.store.migration import Migration, read_migrations, refuse_unknown
from stretto.store.postgres.database import Connection, Database

_ELSEWHERE: Final = "point STRETTO_DATABASE at another database"
_UPGRADE: Final = "run: stretto db upgrade"

_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS migration (
    number bigint PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('stretto migration'), hashtext(current_schema()))"


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The version of the tables there are (0: none) and of those that this Stretto needs.

    Tables have a version when they had all steps up to it.
    """

    current: int
    wanted: int


async def status(url: str) -> SchemaState:
    """Return how the tables stand; SchemaError where another version made them, StoreError."""
    database = Database(url)
    async with await database.connect_or_fail() as connection:
        try:
            return await _read_state(connection, database.place)
        except psycopg.Error as error:
            raise database.error(error) from error


async def upgrade(url: str) -> list[str]:
    """Bring the tables up to date and return the names of the steps that did; SchemaError, StoreError.

    All steps or none. Of two that do this at once, the second waits and finds nothing left to do.
    """
    database, steps, done = Database(url), read_migrations("postgres"), []
    async with await database.connect_or_fail() as connection:
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL statement_timeout = 0")  # a step may rewrite large tables
                await connection.execute(_LOCK)
                await connection.execute(_LEDGER)
                applied = await _applied(connection)
                refuse_unknown(database.place, applied, steps, elsewhere=_ELSEWHERE)
                for step in steps:
                    if step.number not in applied:
                        await _apply(connection, step)
                        done.append(step.name)
        except psycopg.Error as error:
            raise database.error(error) from error
    return done


async def check(connection: Connection, place: str) -> None:
    """Raise SchemaError, which says what to do, where the tables are not those of this Stretto; the rest is psycopg's."""
    state = await _read_state(connection, place)
    if state.current < state.wanted:
        what = f"has tables of version {state.current}" if state.current else "has no tables"
        raise SchemaError(f"{place} {what}, this Stretto needs version {state.wanted}", hint=_UPGRADE)


async def _read_state(connection: Connection, place: str) -> SchemaState:
    steps, applied = read_migrations("postgres"), await _applied(connection)
    refuse_unknown(place, applied, steps, elsewhere=_ELSEWHERE)
    missing = next((i for i, step in enumerate(steps) if step.number not in applied), len(steps))
    return SchemaState(steps[missing - 1].number if missing else 0, steps[-1].number)


async def _applied(connection: Connection) -> dict[int, str]:
    found = await (await connection.execute("SELECT to_regclass('migration') IS NOT NULL")).fetchone()
    if not found or not found[0]:
        return {}
    return {
        row[0]: row[1] for row in await (await connection.execute("SELECT number, checksum FROM migration")).fetchall()
    }


async def _apply(connection: Connection, step: Migration) -> None:
    await connection.execute(step.sql.encode())  # without parameters a script may have many statements
    await connection.execute(
        "INSERT INTO migration (number, name, checksum) VALUES (%s, %s, %s)", (step.number, step.name, step.checksum)
    )
