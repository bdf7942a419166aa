"""A PostgreSQL of our own, which syncs to disk like one in earnest: durability is among what is measured."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from scripts.service.process import ADMIN_PATH, START_TIMEOUT_S, ServiceError
from scripts.service.server import CALL_TIMEOUT_S, Server

USER: Final = "stretto"
DATABASE: Final = "stretto"
PROTOCOL: Final = 3 << 16
"""Version 3.0, as a startup message gives it (PostgreSQL documentation, "Message Formats")."""

SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
}


class Postgres(Server):
    """One cluster with the user and the database `stretto`."""

    name = "postgres"
    variable = "STRETTO_TEST_POSTGRES"
    program = "initdb"
    packages: tuple[str, ...] = ("postgresql",)
    users = ("postgres",)  # initdb refuses root
    port_count = 1
    farewell = signal.SIGINT  # "fast": ends the sessions; SIGTERM would wait for them

    def path(self) -> str:
        """Return where the newest version's programs are, which Debian keeps out of PATH."""
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
        return ":".join([*map(str, reversed(folders)), ADMIN_PATH])

    def prepare(self, password: str) -> None:
        """Make the cluster and in it the database."""
        secret = self.data.with_name("password")
        self.write_secret(secret, password)
        try:
            options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
            self.call(["initdb", f"--pgdata={self.data}", f"--username={USER}", f"--pwfile={secret}", *options])
        finally:
            secret.unlink()
        self.call(["postgres", "--single", "-D", str(self.data), "postgres"], text=f"CREATE DATABASE {DATABASE}\n")

    def command(self, ports: Sequence[int]) -> list[str]:
        """Return the command of the server proper."""
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        return ["postgres", "-D", str(self.data), f"--port={ports[0]}", *settings]

    def environment(self, ports: Sequence[int]) -> dict[str, str]:
        """Return the environment: messages in English, whatever the person's language."""
        return {"PATH": self.path(), "LC_ALL": "C.UTF-8"}

    def address(self, password: str, ports: Sequence[int]) -> str:
        """Return the URL of the database."""
        return f"postgresql://{USER}:{password}@127.0.0.1:{ports[0]}/{DATABASE}"

    def answers(self, address: str) -> bool:
        """Return whether the server asks who we are."""
        return greets(address)

    def call(self, command: list[str], *, text: str = "") -> None:
        """Run one of PostgreSQL's programs to its end; ServiceError with what it said."""
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            cwd="/",
            env=self.environment(()),
            timeout=START_TIMEOUT_S,
            check=False,
            **self.identity(),
        )
        if done.returncode:
            raise ServiceError(f"{command[0]} failed: {(done.stdout + done.stderr).strip()}")


def greets(address: str) -> bool:
    """Return whether the server at the URL asks who we are; one that starts, recovers or stops answers with an error."""
    url = urlsplit(address)
    pairs = f"user\0{url.username}\0database\0{url.path[1:]}\0\0".encode()
    try:
        with socket.create_connection((url.hostname, url.port or 5432), CALL_TIMEOUT_S) as connection:
            connection.sendall(struct.pack("!ii", 8 + len(pairs), PROTOCOL) + pairs)
            return connection.recv(1) == b"R"  # AuthenticationRequest
    except OSError:
        return False
