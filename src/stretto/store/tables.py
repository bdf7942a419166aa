"""The small tables of a SQLite store, for statements that are written for every database alike."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from stretto.store.reader import Reader
from stretto.store.writer import Work, Writer


class SqliteTables:
    """`core.ports.Tables` over the writer and the reader of a store."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return await self._reader.read(lambda connection: connection.execute(sql, values).fetchall())

    async def write(self, *statements: tuple[str, Sequence[Any]]) -> list[list[tuple[Any, ...]]]:
        """Execute the statements in one transaction, on disk when this returns; return the rows of each (RETURNING)."""

        def act(connection: sqlite3.Connection) -> list[list[tuple[Any, ...]]]:
            return [connection.execute(sql, values).fetchall() for sql, values in statements]

        result: list[list[tuple[Any, ...]]] = await self._writer.write(Work(act))
        return result
