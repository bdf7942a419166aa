"""A floor, in a process of its own: rows that connections insert one by one, each on disk before the next.

    python -m bench.insert URL TABLE CONNECTIONS ROWS

The table is a copy of Stretto's, with its indexes and checks. Says `ready`, begins with a line of standard input, and says how
many seconds it took.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Iterator
from itertools import count
from typing import Final

import psycopg

_INSERT: Final[dict[str, bytes]] = {
    "run": b"INSERT INTO floor_run (id, kind, name, status, repository, branch, submitted_by, created_at, seq) "
    b"VALUES (%s, 'pipeline', 'build', 'pending', 'https://example.org/team/project.git', 'main', 'bench', %s, 1)",
    "event": b"INSERT INTO floor_event (run, seq, kind, at, body) "
    b"""VALUES (%s, %s, 'attempt_ended', 0, '{"job":"job-1","number":1,"outcome":{"status":"success"}}')""",
}


def _values(table: str) -> Iterator[tuple[object, ...]]:
    """Return values that no other connection uses."""
    run = secrets.randbits(62)
    for i in count(1):
        yield (f"{run:019}{i:07}", i) if table == "run" else (run, i)


def _insert(connection: psycopg.Connection, table: str, rows: int) -> None:
    for values, _ in zip(_values(table), range(rows), strict=False):
        connection.execute(_INSERT[table], values, prepare=True)


async def _insert_async(connection: psycopg.AsyncConnection, table: str, rows: int) -> None:
    for values, _ in zip(_values(table), range(rows), strict=False):
        await connection.execute(_INSERT[table], values, prepare=True)


def _tell(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def alone(url: str, table: str, rows: int) -> None:
    """Insert over one connection; a loop has nothing to overlap then and would only cost time."""
    with psycopg.connect(url, autocommit=True) as connection:
        _insert(connection, table, 1)
        _tell("ready")
        sys.stdin.readline()
        began = time.perf_counter()
        _insert(connection, table, rows)
        _tell(time.perf_counter() - began)


async def together(url: str, table: str, connections: int, rows: int) -> None:
    """Insert over many connections at once."""
    opened = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(connections)]
    for connection in opened:
        await _insert_async(connection, table, 1)
    _tell("ready")
    sys.stdin.readline()
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for connection in opened:
            group.create_task(_insert_async(connection, table, rows // connections))
    _tell(time.perf_counter() - began)
    for connection in opened:
        await connection.close()


if __name__ == "__main__":
    _, _url, _table, _connections, _rows = sys.argv
    if _connections == "1":
        alone(_url, _table, int(_rows))
    else:
        asyncio.run(together(_url, _table, int(_connections), int(_rows)))
