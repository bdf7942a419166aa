"""A daemon with data of its own: made and started by `start`, ended by the pid on record, deleted by `stop`.

It listens on the loopback only, on ports that were free when it was made, under a password made for it, as a user that is not
root. Between `halt` and `run` its data, ports and password stay: so tests let it die and come back.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from scripts.service.process import (
    START_TIMEOUT_S,
    STOP_TIMEOUT_S,
    ServiceError,
    data_root,
    find_user,
    free_ports,
    install,
    read_pid,
    send,
    tail,
    wait_gone,
)

CALL_TIMEOUT_S: Final = 5.0
"""How long a server on this host may take to greet."""


class Server:
    """What PostgreSQL and RabbitMQ have in common. A subclass says how one is made (`prepare`), run and greeted."""

    name: str
    variable: str
    """The variable that leads to it."""
    program: str
    packages: tuple[str, ...]
    users: tuple[str, ...]
    port_count: int
    farewell: signal.Signals
    """What makes it end in good order, whoever is connected."""

    def __init__(self, state: Path) -> None:
        self.home = state / self.name
        self.data = data_root(self.home / "data")
        self.log = self.home / f"{self.name}.log"
        self.pid_file = self.home / f"{self.name}.pid"
        self.address_file = self.home / "address"
        self.ports_file = self.home / "ports"
        self.children: list[
            subprocess.Popen[bytes]
        ] = []  # kept, as Popen complains of one that is let go while it runs

    # ---------------------------------------------------------------------------------------------- of the subclass

    def path(self) -> str:
        """Return where its programs are, as a PATH."""
        raise NotImplementedError

    def prepare(self, password: str) -> None:
        """Make its data, in a folder that is there and its user's."""
        raise NotImplementedError

    def command(self, ports: Sequence[int]) -> list[str]:
        """Return the command that runs it in the foreground; the command line of the process it becomes has `data` in it."""
        raise NotImplementedError

    def environment(self, ports: Sequence[int]) -> dict[str, str]:
        """Return the whole environment it runs in."""
        raise NotImplementedError

    def address(self, password: str, ports: Sequence[int]) -> str:
        """Return the URL by which it is reached."""
        raise NotImplementedError

    def answers(self, address: str) -> bool:
        """Return whether the one at `address` is ready to work."""
        raise NotImplementedError

    # --------------------------------------------------------------------------------------------------- the service

    def find(self, *, own: bool = False) -> dict[str, str] | None:
        """Return the variable of the one that answers: ours, else the one that the environment names."""
        candidates = [self.address_file.read_text()] if self.address_file.exists() else []
        if not own and self.variable in os.environ:
            candidates.append(os.environ[self.variable])
        found = next((address for address in candidates if self.answers(address)), None)
        return {self.variable: found} if found else None

    def start(self) -> dict[str, str]:
        """Make one anew and start it; ServiceError."""
        install(self.program, self.packages, self.path())
        self.stop()  # what a crash may have left
        self.home.mkdir(parents=True)
        self.data.mkdir()
        user = find_user(*self.users)
        os.chown(self.data, user.pw_uid, user.pw_gid)
        self.data.chmod(0o700)
        password, ports = secrets.token_hex(16), free_ports(self.port_count)
        self.prepare(password)
        self.ports_file.write_text(" ".join(map(str, ports)))
        self.write_secret(self.address_file, self.address(password, ports))
        return self.run()

    def run(self) -> dict[str, str]:
        """Start the one that was made before, on its data, unless it runs; ServiceError."""
        if not self.address_file.exists():
            raise ServiceError(f"there is no {self.name} of ours: scripts/services up {self.name}")
        address = self.address_file.read_text()
        if self.find_pid() is None:
            ports = self.ports()
            process = self.spawn(self.command(ports), self.environment(ports))
            self.pid_file.write_text(f"{process.pid}\n")
            self.await_answer(address, process)
        return {self.variable: address}

    def await_answer(self, address: str, process: subprocess.Popen[bytes]) -> None:
        """Come back when it answers; ServiceError with the end of its log when it does not."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers(address):
            if process.poll() is not None or time.monotonic() > deadline:
                self.halt(kill=True)
                raise ServiceError(f"{self.name} does not start; {self.log} ends\n{tail(self.log)}")
            time.sleep(0.1)

    def halt(self, *, kill: bool = False) -> None:
        """End our own and leave its data; with `kill`, all of its processes at once, without a chance to finish anything."""
        for which in [signal.SIGKILL] if kill else [self.farewell, signal.SIGKILL]:
            if (pid := self.find_pid()) is not None:
                pids = [pid, *(children_of(pid) if which is signal.SIGKILL else [])]
                for one in pids:
                    send(one, which)
                for one in pids:
                    wait_gone(one, STOP_TIMEOUT_S)
        self.pid_file.unlink(missing_ok=True)
        self.forget_children()

    def forget_children(self) -> None:
        """Let go of processes that we started ourselves and that are over; Popen complains of one it didn't see end."""
        self.children = [child for child in self.children if child.poll() is None]

    def stop(self) -> None:
        """End our own and delete all of it."""
        self.halt()
        for folder in (self.data, self.home):
            if folder.exists():
                shutil.rmtree(folder)

    def find_pid(self) -> int | None:
        """Return the pid of our own while it runs."""
        return read_pid(self.pid_file, str(self.data))

    def ports(self) -> list[int]:
        """Return the ports of the one that was made."""
        return [int(port) for port in self.ports_file.read_text().split()]

    # -------------------------------------------------------------------------------------------------------- pieces

    def spawn(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a process as the service's user, apart from our terminal, with its output in the log."""
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env=dict(environment),
                **self.identity(),
            )
        self.children.append(child)
        return child

    def identity(self) -> dict[str, Any]:
        """Return the arguments of `subprocess.Popen` that make a process the service's user's."""
        if os.geteuid() != 0:
            return {}
        user = find_user(*self.users)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def write_secret(self, file: Path, text: str) -> None:
        """Write a new file that only the service's user, and root, can read."""
        user = find_user(*self.users)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            os.fchown(opened.fileno(), user.pw_uid, user.pw_gid)
            opened.write(text)


def children_of(parent: int) -> list[int]:
    """Return the pids of the process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found
