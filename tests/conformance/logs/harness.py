"""Where the suite's logs are kept. One class per log store; `HARNESSES` names them all."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import psycopg

from stretto.core.ports import LogStore
from stretto.store.logs import FileLogs
from stretto.store.postgres import upgrade
from stretto.store.postgres.database import Database
from stretto.store.postgres.logs import PostgresLogs


class Harness(Protocol):
    """A place for logs: all that is opened on one place shows the same logs, as to processes of their own."""

    place: str

    def open(self) -> AsyncIterator[LogStore]:
        """Give one more log store on the place."""

    def drop(self) -> None:
        """Delete the place, if it is not in the test's directory."""


class FilesHarness:
    """Files in a directory."""

    def __init__(self, directory: Path | str) -> None:
        self.place = str(directory)

    @classmethod
    def at(cls, place: str) -> FilesHarness:
        """Return the harness of a place that another process made."""
        return cls(place)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[LogStore]:
        yield FileLogs(Path(self.place) / "logs")

    def drop(self) -> None:
        """It is in the test's directory."""


class PostgresHarness:
    """A schema of the database that STRETTO_TEST_POSTGRES leads to; `place` is its URL."""

    def __init__(self, directory: Path | str) -> None:
        self.schema = f"test_{secrets.token_hex(8)}"
        self.place = f"{os.environ['STRETTO_TEST_POSTGRES']}?options=-csearch_path%3D{self.schema}"
        self.execute(f"CREATE SCHEMA {self.schema}")

    @classmethod
    def at(cls, place: str) -> PostgresHarness:
        """Return the harness of a place that another process made."""
        harness = cls.__new__(cls)
        harness.schema, harness.place = place.rpartition("%3D")[2], place
        return harness

    @asynccontextmanager
    async def open(self) -> AsyncIterator[LogStore]:
        await upgrade(self.place)
        database = Database(self.place)
        await database.open()
        logs = PostgresLogs(database)
        try:
            yield logs
        finally:
            await logs.close()
            await database.close()

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Execute a statement and return its rows."""
        with psycopg.connect(self.place, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def drop(self) -> None:
        self.execute(f"DROP SCHEMA {self.schema} CASCADE")


HARNESSES: dict[str, type[FilesHarness] | type[PostgresHarness]] = {"files": FilesHarness, "postgres": PostgresHarness}
