"""A Docker engine of our own, beside whatever else is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from scripts import engine
from scripts.service.process import (
    ADMIN_PATH,
    KILL_TIMEOUT_S,
    START_TIMEOUT_S,
    STOP_TIMEOUT_S,
    ServiceError,
    install,
    read_pid,
    send,
    socket_root,
    tail,
    wait_gone,
)


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
                f"our dockerd runs but does not answer: scripts/services down; its log ends\n{tail(self.log)}"
            )
        install("dockerd", self.packages)
        self.stop()  # what a crash may have left
        self.run.mkdir(parents=True)
        self.home.mkdir(parents=True, exist_ok=True)
        mount_cgroups()
        for arguments, path in self.ways():
            if self.launch(arguments, path):
                return {"DOCKER_HOST": self.address}
            if "iptables" not in tail(self.log) and "ip6tables" not in tail(self.log):
                break  # it did not fail for want of a firewall: another way round that would not help
        raise ServiceError(f"dockerd does not start; {self.log} ends\n{tail(self.log)}")

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
        raise ServiceError(f"dockerd did not answer within {START_TIMEOUT_S:.0f} s; {self.log} ends\n{tail(self.log)}")

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


def mounts_under(folder: Path, mountinfo: str) -> list[str]:
    """Return the mount points in and below `folder`, deepest first; `mountinfo` as in proc_pid_mountinfo(5)."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in mountinfo.splitlines()]
    return sorted((point for point in points if Path(point).is_relative_to(folder)), key=len, reverse=True)
