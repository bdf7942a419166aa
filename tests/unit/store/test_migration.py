"""The store's tables: made, kept, and refused when they are another version's."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from stretto.core.errors import SchemaError, StoreError
from stretto.core.states import FINAL, Status
from stretto.store.migration import Migration, migrate, read_migrations
from stretto.store.sqlite import SqliteStore


def connect(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(path, isolation_level=None))


def test_migrations_are_numbered_from_one_without_gaps() -> None:
    """The files' numbers are 1, 2, 3 and so on."""
    assert [step.number for step in read_migrations()] == list(range(1, len(read_migrations()) + 1))


def test_tables_repeat_the_statuses() -> None:
    """The CHECK constraints name exactly the statuses that the core knows."""
    (sql,) = (step.sql for step in read_migrations() if step.number == 1)
    everything = ", ".join(f"'{status.value}'" for status in Status)
    assert sql.count(f"CHECK (status IN ({everything}))") == 2
    of_attempts = [Status.RUNNING, *(status for status in Status if status in FINAL - {Status.SKIPPED})]
    assert "CHECK (status IN ({}))".format(", ".join(f"'{status.value}'" for status in of_attempts)) in sql


def test_migrate_twice_changes_nothing(tmp_path: Path) -> None:
    """A store that is up to date is left as it is."""
    with connect(tmp_path / "a.db") as connection:
        migrate(connection, tmp_path, read_migrations())
        before = connection.execute("PRAGMA data_version").fetchall()
        changes = connection.total_changes
        migrate(connection, tmp_path, read_migrations())
        assert connection.execute("PRAGMA data_version").fetchall() == before
        assert connection.total_changes == changes


def test_migrate_applies_what_is_missing(tmp_path: Path) -> None:
    """A later step is applied to a store that has the earlier ones."""
    first, second = Migration(1, "0001_a", "CREATE TABLE a (x);"), Migration(2, "0002_b", "CREATE TABLE b (x);")
    with connect(tmp_path / "a.db") as connection:
        migrate(connection, tmp_path, [first])
        migrate(connection, tmp_path, [first, second])
        assert connection.execute("SELECT number, name FROM migration").fetchall() == [(1, "0001_a"), (2, "0002_b")]
        assert connection.execute("SELECT * FROM b").fetchall() == []


def test_migration_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A step is applied whole or not at all."""
    bad = Migration(1, "0001_a", "CREATE TABLE a (x); CREATE TABLE a (x);")
    with connect(tmp_path / "a.db") as connection:
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            migrate(connection, tmp_path, [bad])
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []


async def test_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """A store with a migration that this version does not know is refused, with what to do."""
    path = tmp_path / "stretto.db"
    await (await SqliteStore.open(path)).close()
    with connect(path) as connection:
        connection.execute("INSERT INTO migration (number, name, checksum) VALUES (99, '0099_later', 'x')")
    with pytest.raises(SchemaError, match="newer Stretto") as caught:
        await SqliteStore.open(path)
    assert "install the newer Stretto" in (caught.value.hint or "")


async def test_store_with_another_history_is_refused(tmp_path: Path) -> None:
    """A store whose migration had another text is refused."""
    path = tmp_path / "stretto.db"
    await (await SqliteStore.open(path)).close()
    with connect(path) as connection:
        connection.execute("UPDATE migration SET checksum = 'other'")
    with pytest.raises(SchemaError, match="differs"):
        await SqliteStore.open(path)


async def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A file that SQLite can't read is named in a StoreError."""
    path = tmp_path / "stretto.db"
    path.write_bytes(b"this is a letter, not a database\n" * 100)
    with pytest.raises(StoreError, match="not an SQLite database"):
        await SqliteStore.open(path)
