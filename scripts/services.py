"""Start and stop what the tests and the demo need. One class per service; the registry is at the bottom.

`up` uses what already answers, and starts its own only where nothing does: everything of it (data, sockets, pid files, logs)
is under `.services/`, and `.services/env` holds the variables that lead to it, to be sourced by a shell. `down` stops by the
pid that `up` recorded, never by name, and deletes. Both may be called any number of times.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from scripts import engine

ROOT: Final = Path(__file__).resolve().parent.parent
STATE: Final = ROOT / ".services"

ADMIN_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
"""Where daemons and their tools are; a user's PATH often lacks the sbin folders."""

INSTALL_TIMEOUT_S: Final = 600.0
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 40.0
"""dockerd gives its containers 15 s and itself a little more."""
KILL_TIMEOUT_S: Final = 10.0
TAIL_LINES: Final = 15

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


# -------------------------------------------------------------------------------------------------------------- docker


class Docker:
    """A Docker engine. Ours has its own data root, exec root, socket and containerd, beside whatever else is installed."""

    packages: tuple[str, ...] = ("docker.io", "iptables")

    def __init__(self, state: Path) -> None:
        self.home = state / "docker"
        self.log = self.home / "dockerd.log"
        self.pid_file = self.home / "dockerd.pid"
        self.run = socket_root(self.home / "run")
        self.address = f"unix://{self.run}/docker.sock"

    def find(self, *, own: bool = False) -> dict[str, str] | None:
        address = self.address if engine.answers(self.address) else None if own else engine.find()
        return {"DOCKER_HOST": address} if address else None

    def start(self) -> dict[str, str]:
        if os.geteuid() != 0:
            raise ServiceError("no Docker engine answers and starting one needs root: sudo scripts/services up docker")
        if self.find_pid() is not None:
            raise ServiceError(
                f"our dockerd runs but does not answer: scripts/services down; its log ends\n{self.tail()}"
            )
        install("dockerd", self.packages)
        self.stop()  # what a crash may have left
        self.run.mkdir(parents=True)
        self.home.mkdir(parents=True, exist_ok=True)
        mount_cgroups()
        for arguments, path in self.ways():
            if self.launch(arguments, path):
                return {"DOCKER_HOST": self.address}
            if "iptables" not in self.tail() and "ip6tables" not in self.tail():
                break  # it did not fail for want of a firewall: another way round that would not help
        raise ServiceError(f"dockerd does not start; {self.log} ends\n{self.tail()}")

    def ways(self) -> Iterator[tuple[list[str], str]]:
        """Yield arguments and PATH for each way to start: this host's iptables, its legacy one, none (no NAT then)."""
        yield [], ADMIN_PATH
        if legacy := shutil.which("iptables-legacy", path=ADMIN_PATH):
            tools = self.home / "legacy"
            tools.mkdir(exist_ok=True)
            for name in ("iptables", "ip6tables"):
                with contextlib.suppress(FileExistsError):
                    (tools / name).symlink_to(legacy.replace("iptables", name))
            yield [], f"{tools}:{ADMIN_PATH}"
        yield ["--iptables=false"], ADMIN_PATH

    def launch(self, arguments: list[str], path: str) -> bool:
        """Start dockerd and return whether it answers; False when it ended by itself; ServiceError when it hangs."""
        command = [
            *("dockerd", f"--host={self.address}", f"--data-root={self.home}/data", f"--exec-root={self.run}/exec"),
            *(f"--pidfile={self.home}/own.pid", *arguments),
        ]
        with self.log.open("w") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={"PATH": path, "HOME": "/root"},
                executable=shutil.which("dockerd", path=ADMIN_PATH),
            )
        self.pid_file.write_text(f"{process.pid}\n")
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if engine.answers(self.address):
                return True
            if process.poll() is not None:
                return False
            time.sleep(0.1)
        self.stop_process()
        raise ServiceError(f"dockerd did not answer within {START_TIMEOUT_S:.0f} s; {self.log} ends\n{self.tail()}")

    def stop(self) -> None:
        self.stop_process()
        for folder in {self.home, self.run}:
            for mount in mounts_under(folder, Path("/proc/self/mountinfo").read_text()):
                subprocess.run(
                    ["umount", "--lazy", mount], env={"PATH": ADMIN_PATH}, timeout=KILL_TIMEOUT_S, check=True
                )
            if folder.exists():
                shutil.rmtree(folder)

    def stop_process(self) -> None:
        """Stop our dockerd, which stops its containers and its containerd; kill both where they don't."""
        containerd = self.run / "exec/containerd/containerd.pid"
        pids = [pid for pid in (self.find_pid(), read_pid(containerd, str(self.run))) if pid is not None]
        for pid in pids[:1]:
            send(pid, signal.SIGTERM)
            wait_gone(pid, STOP_TIMEOUT_S)
        for pid in pids:
            send(pid, signal.SIGKILL)
            wait_gone(pid, KILL_TIMEOUT_S)
        self.pid_file.unlink(missing_ok=True)

    def find_pid(self) -> int | None:
        return read_pid(self.pid_file, str(self.home))

    def tail(self) -> str:
        """Return the end of the log, indented."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])


def socket_root(wanted: Path) -> Path:
    """Return `wanted`, or a short open folder instead where addresses in it would be too long or other users can't reach it."""
    reachable = all(parent.stat().st_mode & stat.S_IXOTH for parent in wanted.parents if parent.exists())
    if len(str(wanted)) <= MAX_SOCKET_ROOT and reachable:
        return wanted
    return Path("/run", f"stretto-services-{hashlib.sha256(str(wanted).encode()).hexdigest()[:10]}")


def mount_cgroups() -> None:
    """Mount the control groups where no init system has. They stay mounted: they are the machine's, and harmless."""
    if Path("/sys/fs/cgroup/cgroup.controllers").exists() or any(Path("/sys/fs/cgroup").glob("*/tasks")):
        return
    for command in cgroup_mounts(Path("/proc/cgroups").read_text()):
        Path(command[-1]).mkdir(parents=True, exist_ok=True)
        subprocess.run(command, env={"PATH": ADMIN_PATH}, timeout=KILL_TIMEOUT_S, check=True)


def cgroup_mounts(table: str) -> list[list[str]]:
    """Return the mount commands for `table` (/proc/cgroups): version 1 where a controller is bound to it, else version 2.

    A controller with hierarchy 0 is free for version 2 (cgroups(7)).
    """
    rows = [line.split() for line in table.splitlines() if not line.startswith("#")]
    bound = [name for name, hierarchy, _, enabled in rows if enabled == "1" and hierarchy != "0"]
    if not bound:
        return [["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"]]
    folder = ["mount", "-t", "tmpfs", "-o", "mode=755", "cgroup", "/sys/fs/cgroup"]
    return [folder, *(["mount", "-t", "cgroup", "-o", name, "cgroup", f"/sys/fs/cgroup/{name}"] for name in bound)]


# ------------------------------------------------------------------------------------------------------------- busybox


class Program:
    """A program that tests need, and no server: it is installed, and stays."""

    def __init__(self, name: str, package: str) -> None:
        self.name = name
        self.packages: tuple[str, ...] = (package,)

    def find(self, *, own: bool = False) -> dict[str, str] | None:
        return {} if shutil.which(self.name, path=ADMIN_PATH) else None

    def start(self) -> dict[str, str]:
        install(self.name, self.packages)
        return {}

    def stop(self) -> None:
        """Nothing runs."""


# ------------------------------------------------------------------------------------------------ packages, processes


def install(program: str, packages: tuple[str, ...]) -> None:
    """Install Debian packages where `program` is missing and we may; ServiceError with the command where we may not."""
    if shutil.which(program, path=ADMIN_PATH):
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or not shutil.which("apt-get", path=ADMIN_PATH):
        raise ServiceError(f"{program} is missing; install it: sudo {shlex.join(command)}")
    say(f"installing {', '.join(packages)}")
    environment = {**os.environ, "PATH": ADMIN_PATH, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for step in (["apt-get", "update"], command):
        done = subprocess.run(
            step, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S
        )
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-TAIL_LINES:])
            raise ServiceError(f"{shlex.join(step)} failed:\n{tail}")


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


def mounts_under(folder: Path, mountinfo: str) -> list[str]:
    """Return the mount points in and below `folder`, deepest first; `mountinfo` as in proc_pid_mountinfo(5)."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in mountinfo.splitlines()]
    return sorted((point for point in points if Path(point).is_relative_to(folder)), key=len, reverse=True)


# ------------------------------------------------------------------------------------------------------------ commands

SERVICES: Final[dict[str, Service]] = {
    "docker": Docker(STATE),
    "busybox": Program("busybox", "busybox-static"),  # what tests put into their images
    "chromium": Program("chromium", "chromium"),  # looks at the HTML report
}


def up(names: list[str], *, own: bool = False) -> None:
    """Make the named services answer and write `.services/env`, which leads to all that answer, named or not.

    With `own`, what answers and was not started here is not used: it may end with whoever started it.
    """
    variables: dict[str, str] = {}
    for name, service in SERVICES.items():
        found = service.find(own=own)
        if found is None and name in names:
            say(f"{name}: starting")
            found = service.start()
            say(f"{name}: ready; scripts/services down stops what was started here")
        variables |= found or {}
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    new = STATE / "env.new"
    new.write_text(lines)
    new.replace(STATE / "env")


def down(names: list[str]) -> None:
    """Stop and delete what `up` started; `.services` goes too when nothing is left in it."""
    (STATE / "env").unlink(missing_ok=True)
    for name in names:
        SERVICES[name].stop()


def status(names: list[str]) -> bool:
    """Say of each service whether it answers; return whether all do."""
    found = {name: SERVICES[name].find() for name in names}
    for name, variables in found.items():
        leads = ", ".join(f"{key}={value}" for key, value in (variables or {}).items())
        say(f"{name}: missing" if variables is None else f"{name}: ready {leads}".rstrip())
    return None not in found.values()


def say(text: str) -> None:
    """Tell the person, on stderr: stdout may be read by a program."""
    sys.stderr.write(f"scripts/services: {text}\n")


def main() -> int:
    """Do what the command line says; 1 with a message when a service can't be had."""
    parser = argparse.ArgumentParser(prog="scripts/services", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("up", "down", "status"))
    parser.add_argument("services", nargs="*", help=f"of {', '.join(SERVICES)}; all when none is named")
    parser.add_argument("--own", action="store_true", help="use nothing that was not started by this script")
    arguments = parser.parse_args()
    names = arguments.services or list(SERVICES)
    if unknown := set(names) - set(SERVICES):
        parser.error(f"unknown service {', '.join(sorted(unknown))}; there is {', '.join(SERVICES)}")
    if arguments.command == "status":
        return 0 if status(names) else 1
    STATE.mkdir(exist_ok=True)
    try:
        with (STATE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time; let go when the process ends
            if arguments.command == "up":
                up(names, own=arguments.own)
            else:
                down(names)
    except (ServiceError, OSError, subprocess.SubprocessError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
