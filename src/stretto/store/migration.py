"""The store's tables, brought up to date step by step. A step that was released is never changed: write the next one.

Each file of `migrations/` runs in one transaction together with the row that records it.
"""

from __future__ import annotations

import hashlib
import sqlite3
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


def read_migrations() -> list[Migration]:
    """Return all steps in order."""
    files = sorted((Path(__file__).parent / "migrations").glob("[0-9]*_*.sql"))
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
            _refuse_unknown(path, applied, steps)
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


def _refuse_unknown(path: Path, applied: dict[int, str], steps: list[Migration]) -> None:
    ours = {step.number: step.checksum for step in steps}
    newest = max(ours, default=0)
    if applied and max(applied) > newest:
        raise SchemaError(
            f"{path} was written by a newer Stretto (its tables have version {max(applied)}, this one knows {newest})",
            hint="install the newer Stretto, or point STRETTO_HOME at another directory",
        )
    for number, checksum in applied.items():
        if ours.get(number) != checksum:
            raise SchemaError(
                f"{path} was made by a Stretto whose migration {number} differs from this one's",
                hint="use the Stretto that made it, or point STRETTO_HOME at another directory",
            )


def _statements(sql: str) -> list[str]:
    """Split a script into its statements; `executescript` can't be used because it commits by itself."""
    statements, start = [], 0
    for at, character in enumerate(sql):
        if character == ";" and sqlite3.complete_statement(sql[start : at + 1]):
            statements.append(sql[start : at + 1])
            start = at + 1
    return statements
