"""Databases of our own on the PostgreSQL of `scripts/services`, and processes of Stretto over them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg

from bench.measure import run
from bench.project import PROGRAM
from scripts.service.postgres import greets

VARIABLE: Final = "STRETTO_TEST_POSTGRES"
FLOORS: Final = ("run", "event")
"""Tables of Stretto's that floors write to copies of, with their indexes and checks."""
END_TIMEOUT_S: Final = 30.0
SLOW_SYNC_US: Final = 1_000
"""What a sync to a disk that really waits for its medium costs; some acknowledge in 50 microseconds."""


@contextmanager
def database(*, sync_us: int = 0) -> Iterator[str]:
    """Give the URL of a fresh database with Stretto's tables; RuntimeError where there is no PostgreSQL.

    `floor_run` and `floor_event` are there as well. With `sync_us`, each sync of the log takes that much longer: `commit_delay`
    lets whoever syncs wait under the very lock that the others queue for.
    """
    server = os.environ.get(VARIABLE, "")
    if not server or not greets(server):
        raise RuntimeError(
            f"{VARIABLE} leads to no PostgreSQL: scripts/services up postgres, then source .services/env"
        )
    name = f"stretto_bench_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            if sync_us:
                connection.execute(f"ALTER DATABASE {name} SET commit_delay = {sync_us}".encode())
                connection.execute(f"ALTER DATABASE {name} SET commit_siblings = 0".encode())
            url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
            run([PROGRAM, "db", "upgrade"], cwd=Path("/"), variables={"STRETTO_DATABASE": url})
            with psycopg.connect(url, autocommit=True) as made:
                for table in FLOORS:
                    made.execute(f"CREATE TABLE floor_{table} (LIKE {table} INCLUDING ALL)".encode())
            yield url
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


class Process:
    """A process that says when it is ready, on its standard output. To be used as a context: it is told to end there."""

    def __init__(self, command: Sequence[str | Path], variables: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._out.close()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def _out(self) -> IO[str]:
        assert self._process.stdout is not None  # it is a pipe
        return self._process.stdout

    def read_line(self) -> str:
        """Return what it says next; RuntimeError if it ended instead."""
        if not (line := self._out.readline()):
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}")
        return line.strip()

    def go(self) -> None:
        """Let it begin: it waits for a line."""
        assert self._process.stdin is not None  # it is a pipe
        self._process.stdin.write("\n")
        self._process.stdin.flush()


def serve(role: str, home: Path, url: str, **variables: str) -> Process:
    """Return a `stretto serve` process over the database; its first line is the URL it answers at."""
    given = {"STRETTO_HOME": str(home), "STRETTO_DATABASE": url, "STRETTO_API_RATE_PER_MINUTE": "0", **variables}
    return Process([PROGRAM, "-q", "serve", "--role", role, "--port", "0"], given)


def make_token(home: Path, url: str) -> str:
    """Return a token that may do anything."""
    done = subprocess.run(
        [PROGRAM, "token", "create", "bench", "--scope", "admin"],
        env={**os.environ, "STRETTO_HOME": str(home), "STRETTO_DATABASE": url},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def module(name: str, *arguments: str | int, **variables: str) -> Process:
    """Return a process that runs this module of the bench."""
    return Process([sys.executable, "-m", f"bench.{name}", *map(str, arguments)], variables)


def result(*processes: Process) -> list[Any]:
    """Let processes that are ready begin together, and return what each says at its end."""
    for process in processes:
        process.go()
    return [json.loads(process.read_line()) for process in processes]
