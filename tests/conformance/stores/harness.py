"""What the suite needs of a store beyond its Protocol. One class per store; `HARNESSES` names them all."""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Protocol

import psycopg

from stretto.core.ports import Store
from stretto.store.postgres import PostgresStore, upgrade
from stretto.store.rows import moment
from stretto.store.sqlite import SqliteStore

from .history import Rows


class Harness(Protocol):
    """A place for stores: everything opened on one harness sees the same state."""

    place: str

    async def open(self) -> Store:
        """Open one more store on the place."""

    def rows(self, run_id: str) -> Rows:
        """Return what the tables say of the run, jobs in the order of the spec."""

    def check(self) -> None:
        """Fail if the place is damaged."""

    def move_to_another_host(self, owner: str) -> None:
        """Make the owner's process look like one of a host about which nothing is known."""

    def drop(self) -> None:
        """Delete the place, if it is not in the test's directory."""


class SqliteHarness:
    """SQLite in a directory; `place` is the file's path."""

    def __init__(self, directory: Path | str) -> None:
        self.place = str(Path(directory) / "stretto.db")

    @classmethod
    def at(cls, place: str) -> SqliteHarness:
        """Return the harness of a place that another process made."""
        return cls(Path(place).parent)

    async def open(self) -> SqliteStore:
        return await SqliteStore.open(Path(self.place))

    def rows(self, run_id: str) -> Rows:
        with closing(sqlite3.connect(self.place)) as connection:
            (run,) = connection.execute("SELECT number FROM run WHERE id = ?", (run_id,)).fetchone()
            names = dict(connection.execute("SELECT job, name FROM job WHERE run = ?", (run,)))
            jobs = connection.execute(
                "SELECT name, stage, status, reason, message, exit_code, started_at, ended_at FROM job"
                " WHERE run = ? ORDER BY job",
                (run,),
            )
            attempts = connection.execute(
                "SELECT job, number, status, reason, message, exit_code, starting_at, started_at, ended_at,"
                " handle ->> 'key' FROM attempt WHERE run = ? ORDER BY job, number",
                (run,),
            )
            artifacts = connection.execute(
                "SELECT job, attempt, path, size_bytes, digest, executable, link FROM artifact"
                " WHERE run = ? ORDER BY job, attempt, path DESC",
                (run,),
            )
            return Rows(
                [(*row[:6], *map(_time, row[6:])) for row in jobs],
                [(names[row[0]], *row[1:6], *map(_time, row[6:9]), row[9]) for row in attempts],
                [(names[row[0]], *row[1:5], bool(row[5]), row[6]) for row in artifacts],
            )

    def check(self) -> None:
        with closing(sqlite3.connect(self.place)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []

    def move_to_another_host(self, owner: str) -> None:
        with closing(sqlite3.connect(self.place)) as connection, connection:
            connection.execute("UPDATE worker SET realm = 'elsewhere', host = 'far' WHERE owner = ?", (owner,))

    def drop(self) -> None:
        """It is in the test's directory."""


class PostgresHarness:
    """A schema of the database that STRETTO_TEST_POSTGRES leads to; `place` is its URL. The directory is not used."""

    def __init__(self, directory: Path | str) -> None:
        self.schema = f"test_{secrets.token_hex(8)}"
        self.place = f"{os.environ['STRETTO_TEST_POSTGRES']}?options=-csearch_path%3D{self.schema}"
        with self.connect() as connection:
            connection.execute(f"CREATE SCHEMA {self.schema}".encode())

    @classmethod
    def at(cls, place: str) -> PostgresHarness:
        """Return the harness of a place that another process made."""
        harness = cls.__new__(cls)
        harness.schema, harness.place = place.rpartition("%3D")[2], place
        return harness

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.place, autocommit=True)

    async def open(self) -> PostgresStore:
        await upgrade(self.place)
        return await PostgresStore.open(self.place)

    def rows(self, run_id: str) -> Rows:
        with self.connect() as connection:
            run = connection.execute("SELECT number FROM run WHERE id = %s", (run_id,)).fetchone()
            jobs = connection.execute(
                "SELECT name, stage, status, reason, message, exit_code, started_at, ended_at FROM job"
                " WHERE run = %s ORDER BY job",
                run,
            ).fetchall()
            attempts = connection.execute(
                "SELECT job.name, number, attempt.status, attempt.reason, attempt.message, attempt.exit_code, starting_at,"
                " attempt.started_at, attempt.ended_at, handle::json ->> 'key'"
                " FROM attempt JOIN job USING (run, job) WHERE run = %s ORDER BY job, number",
                run,
            ).fetchall()
            artifacts = connection.execute(
                "SELECT job.name, attempt, path, size_bytes, digest, executable, link"
                ' FROM artifact JOIN job USING (run, job) WHERE run = %s ORDER BY job, attempt, path COLLATE "C" DESC',
                run,
            ).fetchall()
        return Rows(
            [(*row[:6], *map(_time, row[6:])) for row in jobs],
            [(*row[:6], *map(_time, row[6:9]), row[9]) for row in attempts],
            list(artifacts),
        )

    def check(self) -> None:
        """The server checks itself; what it may have kept must be whole: events without gaps, up to the run's last."""
        with self.connect() as connection:
            torn = "SELECT count(*) FROM run WHERE seq <> (SELECT count(*) FROM event WHERE event.run = run.number)"
            assert connection.execute(torn).fetchone() == (0,)

    def move_to_another_host(self, owner: str) -> None:
        with self.connect() as connection:
            connection.execute("UPDATE worker SET realm = 'elsewhere', host = 'far' WHERE owner = %s", (owner,))

    def drop(self) -> None:
        with self.connect() as connection:
            connection.execute(f"DROP SCHEMA {self.schema} CASCADE".encode())


def _time(value: int | None) -> object:
    return None if value is None else moment(value)


HARNESSES: dict[str, type[SqliteHarness] | type[PostgresHarness]] = {
    "postgres": PostgresHarness,
    "sqlite": SqliteHarness,
}
