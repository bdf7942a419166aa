"""The small tables of a PostgreSQL store, for statements that are written for every database alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from stretto.store.postgres.database import Connection, Database

_QUOTED: Final = re.compile(r"""('[^']*'|"[^"]*"|--[^\n]*)""")
"""A quote that is doubled within a quoted text looks like the end of one and the begin of the next, which comes to the same."""


class PostgresTables:
    """`core.ports.Tables` over the pool of a store; `tell` is called when something was written."""

    def __init__(self, database: Database, tell: Callable[[], None]) -> None:
        self._database = database
        self._tell = tell

    async def read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""

        async def act(connection: Connection) -> list[tuple[Any, ...]]:
            return await (await connection.execute(_translate(sql), values)).fetchall()

        return await self._database.call(act)

    async def write(self, *statements: tuple[str, Sequence[Any]]) -> list[list[tuple[Any, ...]]]:
        """Execute the statements in one transaction, on disk when this returns; return the rows of each (RETURNING).

        They may be executed once more where the server's answer was lost.
        """

        async def act(connection: Connection) -> list[list[tuple[Any, ...]]]:
            found = []
            async with connection.transaction():
                for sql, values in statements:
                    done = await connection.execute(_translate(sql), values)
                    found.append(await done.fetchall() if done.description else [])
            return found

        found = await self._database.call(act)
        self._tell()
        return found


@lru_cache(maxsize=256)
def _translate(sql: str) -> bytes:
    """Return the statement with psycopg's marks; a `?` in a quoted text, name or comment is none."""
    pieces = _QUOTED.split(sql)  # what is quoted stands between the others
    pieces[::2] = [piece.replace("%", "%%").replace("?", "%s") for piece in pieces[::2]]
    pieces[1::2] = [piece.replace("%", "%%") for piece in pieces[1::2]]
    return "".join(pieces).encode()
