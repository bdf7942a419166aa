"""What the services share: packages, folders that other users reach, processes known by a pid and a mark."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import random
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

ADMIN_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
"""Where daemons and their tools are; a user's PATH often lacks the sbin folders."""

INSTALL_TIMEOUT_S: Final = 600.0
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 40.0
"""dockerd gives its containers 15 s and itself a little more."""
KILL_TIMEOUT_S: Final = 10.0
TAIL_LINES: Final = 15
SERVER_PORTS: Final = (15000, 32000)
"""From, to: Linux gives clients ports from 32768 on (ip(7), ip_local_port_range)."""

MAX_SOCKET_ROOT: Final = 70
"""The longest folder for sockets: an address has 107 characters, and containerd adds up to 33 to its folder."""


class ServiceError(Exception):
    """A service can't be had; the message says why and what to do."""


class Service(Protocol):
    """Something that tests need. All calls may be repeated."""

    packages: tuple[str, ...]
    """The Debian packages it comes from."""

    def find(self, *, own: bool = False) -> dict[str, str] | None:
        """Return the variables that lead to it where it answers, None where it does not; with `own`, only ours counts."""

    def start(self) -> dict[str, str]:
        """Start our own and return the variables that lead to it, when it answers; ServiceError."""

    def stop(self) -> None:
        """Stop our own, if there is one, and delete all of it."""


# ------------------------------------------------------------------------------------------------------------ packages


def install(program: str, packages: tuple[str, ...], path: str = ADMIN_PATH) -> None:
    """Install Debian packages where `program` is not in `path` and we may; ServiceError with the command where we may not."""
    if shutil.which(program, path=path):
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or not shutil.which("apt-get", path=ADMIN_PATH):
        raise ServiceError(f"{program} is missing; install it: sudo {shlex.join(command)}")
    say(f"installing {', '.join(packages)}")
    environment = {**os.environ, "PATH": ADMIN_PATH, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    with no_daemons():
        for step in (["apt-get", "update"], command):
            done = subprocess.run(
                step,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=INSTALL_TIMEOUT_S,
            )
            if done.returncode:
                tail = "\n".join((done.stdout + done.stderr).splitlines()[-TAIL_LINES:])
                raise ServiceError(f"{shlex.join(step)} failed:\n{tail}")


@contextlib.contextmanager
def no_daemons(policy: Path = Path("/usr/sbin/policy-rc.d")) -> Iterator[None]:
    """Keep packages that are installed meanwhile from starting their daemons, unless this machine has a policy already.

    101 means "forbidden" to invoke-rc.d(8) and deb-systemd-invoke(1p).
    """
    try:
        with policy.open("x") as file:
            file.write("#!/bin/sh\nexit 101\n")
    except FileExistsError:
        yield
        return
    try:
        policy.chmod(0o755)
        yield
    finally:
        policy.unlink()


# ------------------------------------------------------------------------------------------------- folders, users, ports


def socket_root(wanted: Path) -> Path:
    """Return `wanted`, or a short open folder instead where addresses in it would be too long or other users can't reach it."""
    if len(str(wanted)) <= MAX_SOCKET_ROOT and is_reachable(wanted):
        return wanted
    return Path("/run", short_name(wanted))


def data_root(wanted: Path) -> Path:
    """Return `wanted`, or a folder on disk (which /run is not) instead where root's services run as users who can't reach it."""
    return wanted if os.geteuid() != 0 or is_reachable(wanted) else Path("/var/lib", short_name(wanted))


def is_reachable(folder: Path) -> bool:
    """Return whether any user may pass through the folders that `folder` is in."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in folder.parents if parent.exists())


def short_name(folder: Path) -> str:
    """Return a name that is the folder's own."""
    return f"stretto-services-{hashlib.sha256(str(folder).encode()).hexdigest()[:10]}"


def find_user(*names: str) -> pwd.struct_passwd:
    """Return the user that a daemon runs as: the first of `names` there is; for those who are not root, themselves."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    for name in (*names, "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServiceError(f"there is no user {names[0]}, nor nobody")


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nothing listens on now, below those that the kernel gives to clients.

    One of those might be taken while our server is down, even by a client that looks for it and finds itself.
    """
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            one = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # taken
                one.bind(("127.0.0.1", random.randrange(*SERVER_PORTS)))
                ports.append(one.getsockname()[1])
        return ports


# ----------------------------------------------------------------------------------------------------------- processes


def read_pid(file: Path, mark: str) -> int | None:
    """Return the pid in `file` while that process lives and its command line holds `mark` (a pid may be used again)."""
    try:
        pid = int(file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (OSError, ValueError):
        return None
    return pid if mark in command else None


def send(pid: int, which: signal.Signals) -> None:
    """Send the signal unless the process is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, which)


def wait_gone(pid: int, timeout_s: float) -> None:
    """Come back when the process is gone, or after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)  # it is our own child when this process started it
            return
        time.sleep(0.05)


def tail(log: Path) -> str:
    """Return the end of the log, indented."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])


def say(text: str) -> None:
    """Tell the person, on stderr: stdout may be read by a program."""
    sys.stderr.write(f"scripts/services: {text}\n")
