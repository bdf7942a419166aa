"""The store's tables, brought up to date step by step. A step that was released is never changed: write the next one.

Each file of `migrations/<dialect>/` runs in one transaction together with the row that records it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from stretto.core.errors import SchemaError
from stretto.core.frozen import frozen

_LEDGER = """
CREATE TABLE IF NOT EXISTS migration (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
) STRICT
"""


@frozen
class Migration:
    """One numbered step; `checksum` is the SHA-256 of its text."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(dialect: str = "sqlite") -> list[Migration]:
    """Return all steps in order."""
    files = sorted((Path(__file__).parent / "migrations" / dialect).glob("[0-9]*_*.sql"))
    return [Migration(int(file.stem.partition("_")[0]), file.stem, file.read_text(encoding="utf-8")) for file in files]


def migrate(connection: sqlite3.Connection, path: Path, steps: list[Migration]) -> None:
    """Apply the steps that the store at `path` has not yet had; SchemaError if it had others than these.

    The connection must be in autocommit mode. Any number of processes may do this at once.
    """
    if _applied(connection) == {step.number: step.checksum for step in steps}:
        return
    for step in steps:
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(_LEDGER)
            applied = _applied(connection)
            refuse_unknown(str(path), applied, steps, elsewhere="point STRETTO_HOME at another directory")
            if step.number not in applied:
                for statement in _statements(step.sql):
                    connection.execute(statement)
                connection.execute(
                    "INSERT INTO migration (number, name, checksum) VALUES (?, ?, ?)",
                    (step.number, step.name, step.checksum),
                )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _applied(connection: sqlite3.Connection) -> dict[int, str]:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migration'").fetchone() is None:
        return {}
    return dict(connection.execute("SELECT number, checksum FROM migration").fetchall())


def refuse_unknown(place: str, applied: Mapping[int, str], steps: Sequence[Migration], *, elsewhere: str) -> None:
    """Raise SchemaError where the store had steps that these are not; `elsewhere` says how to use another store."""
    ours = {step.number: step.checksum for step in steps}
    newest = max(ours, default=0)
    if applied and max(applied) > newest:
        raise SchemaError(
            f"{place} was written by a newer Stretto (its tables have version {max(applied)}, this one knows {newest})",
            hint=f"install the newer Stretto, or {elsewhere}",
        )
    for number, checksum in applied.items():
        if ours.get(number) != checksum:
            raise SchemaError(
                f"{place} was made by a Stretto whose migration {number} differs from this one's",
                hint=f"use the Stretto that made it, or {elsewhere}",
            )


def _statements(sql: str) -> list[str]:
    """Split a script into its statements; `executescript` can't be used because it commits by itself."""
    statements, start = [], 0
    for at, character in enumerate(sql):
        if character == ";" and sqlite3.complete_statement(sql[start : at + 1]):
            statements.append(sql[start : at + 1])
            start = at + 1
    return statements
