"""A server of several processes, as an administrator would start it, to be killed and restarted by tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.support.cli import PROGRAM, run_cli

START_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 20.0
LOG_TAIL_BYTES = 4000


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def own_database(name: str) -> Iterator[str]:
    """Give the URL of a new database on the test server, and drop it afterwards."""
    address = os.environ["STRETTO_TEST_POSTGRES"]
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    yield address.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@dataclass
class Node:
    """One process of the server: `arguments` are those of `stretto serve`; its output goes to `log`."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    port: int | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    starts: int = 0

    def start(self) -> None:
        """Start it, which must not run."""
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs already"
        with self.log.open("ab") as out:
            out.write(f"--- start {self.starts}\n".encode())
            out.flush()
            self.process = subprocess.Popen(
                [PROGRAM, "serve", *self.arguments],
                env={**os.environ, **self.environment},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.starts += 1

    def kill(self) -> None:
        """End it with SIGKILL: it gets no chance to say anything."""
        assert self.process is not None
        assert self.process.poll() is None, f"{self.name} ended by itself: {self.tail()}"
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)

    def stop(self, timeout_s: float = 40.0) -> int:
        """Ask it to end (SIGTERM) and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=timeout_s)

    def wait_ready(self) -> None:
        """Come back when it answers that it is ready."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, f"{self.name} ended: {self.tail()}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"{self.name} does not become ready: {self.tail()}")

    def tail(self) -> str:
        """Return the end of its output."""
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")


class Cluster:
    """API servers and conductors over one database, one queue and, as they share a host, one home."""

    def __init__(self, directory: Path, variables: Mapping[str, str], *, apis: int, conductors: int) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.variables = {
            "STRETTO_HOME": str(self.home),
            "STRETTO_CONDUCTOR_LEASE_S": "3",
            "STRETTO_API_DRIVERS": "docker,process",
            "STRETTO_API_RATE_PER_MINUTE": "0",
            **variables,
        }
        self.token = ""
        self.apis = [self._node(f"api{i}", "api", free_port()) for i in range(apis)]
        self.conductors = [self._node(f"conductor{i}", "conductor", None) for i in range(conductors)]

    def _node(self, name: str, role: str, port: int | None) -> Node:
        arguments = ("--role", role, *(() if port is None else ("--port", str(port))))
        return Node(name, arguments, self.variables, self.directory / f"{name}.log", port)

    @property
    def url(self) -> str:
        """Where the first API server answers."""
        return f"http://127.0.0.1:{self.apis[0].port}"

    @property
    def nodes(self) -> list[Node]:
        """All processes."""
        return [*self.apis, *self.conductors]

    def start(self) -> None:
        """Make the tables and a token, start everything, and come back when the API servers are ready."""
        for command in (["db", "upgrade"], ["token", "create", "tests", "--scope", "admin", "--json"]):
            done = run_cli(command, self.directory, self.home, variables=self.variables)
            assert done.code == 0, done.err
        self.token = json.loads(done.out)["token"]
        for node in self.nodes:
            node.start()
        for api in self.apis:
            api.wait_ready()

    def stop(self) -> None:
        """End what still runs."""
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.kill()

    def forget(self) -> None:
        """Delete all that database and home know but the tokens and who is at work; runs are numbered from 1 again."""
        with psycopg.connect(self.variables["STRETTO_DATABASE"], autocommit=True) as connection:
            found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()").fetchall()
            for name in sorted({name for (name,) in found} - {"migration", "token", "worker"}):
                connection.execute(f"DELETE FROM {name}".encode())  # TRUNCATE would lock out the processes, and they it
            connection.execute("SELECT setval(pg_get_serial_sequence('run', 'number'), 1, false)")
        for name in ("mirrors", "checkouts", "artifacts", "attempts"):
            shutil.rmtree(self.home / name, ignore_errors=True)  # made when needed

    def call(self, api: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Make one call and return status and JSON; OSError where nobody answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.apis[api].port}{path}",
            data,
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **headers},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_TIMEOUT_S) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")
