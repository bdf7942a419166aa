"""The decisions of scripts/services: sockets, control groups, mounts, pids; and a whole engine of our own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from scripts import engine, services
from scripts.engine import Engine
from scripts.service import docker, process


def test_socket_root_is_short_enough_for_an_address(tmp_path: Path) -> None:
    """A folder that is too long for the sockets below it is replaced by a short one, the same each time."""
    short, long = Path("/home/ann/stretto/.services/docker/run"), tmp_path / ("x" * 100)
    assert process.socket_root(short) == short
    assert process.socket_root(long) == process.socket_root(long) != process.socket_root(long / "y")
    assert len(str(process.socket_root(long))) <= process.MAX_SOCKET_ROOT


HEAD = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"


def test_cgroup_mounts_follow_the_kernels_table() -> None:
    """Controllers that version 1 holds are mounted one by one, those that are switched off not at all."""
    commands = docker.cgroup_mounts(HEAD + "cpu\t1\t2\t1\nmemory\t4\t19\t1\nnet_cls\t0\t2\t1\nhugetlb\t5\t1\t0\n")
    assert [command[-1] for command in commands] == [f"/sys/fs/cgroup{name}" for name in ("", "/cpu", "/memory")]


def test_cgroup_mounts_prefer_version_2() -> None:
    """Where version 1 holds none, one mount of version 2 is enough."""
    assert docker.cgroup_mounts(HEAD + "cpu\t0\t2\t1\nmemory\t0\t1\t1\n") == [
        ["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"]
    ]


def test_mounts_under_come_deepest_first() -> None:
    """What is mounted below a folder is listed so that it can be unmounted in that order; neighbours are left alone."""
    table = "\n".join(
        f"36 35 98:0 / {point} rw,noatime - ext3 /dev/root rw"
        for point in ("/", "/a", "/a/b", "/a/b/c\\040d", "/ab", "/a/e")
    )
    assert docker.mounts_under(Path("/a"), table) == ["/a/b/c d", "/a/b", "/a/e", "/a"]


def test_read_pid_distrusts_a_pid_of_another_program(tmp_path: Path) -> None:
    """A pid counts only while its process lives and has our mark on its command line."""
    file = tmp_path / "pid"
    assert process.read_pid(file, "mark") is None
    child = subprocess.Popen([sys.executable, "-c", "input()", "our-mark"], stdin=subprocess.PIPE)
    try:
        file.write_text(f"{child.pid}\n")
        deadline = time.monotonic() + 10
        while process.read_pid(file, "our-mark") is None:  # until the child has become python
            assert time.monotonic() < deadline
        assert process.read_pid(file, "our-mark") == child.pid
        assert process.read_pid(file, "another-mark") is None
    finally:
        child.communicate(b"\n", timeout=10)
    assert process.read_pid(file, "our-mark") is None


def test_socket_root_is_open_to_other_users() -> None:
    """A folder below one that is closed to others is replaced too: a job's user must reach the engine."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as closed:  # made with mode 700
        wanted = Path(closed, "run")
        assert process.socket_root(wanted) != wanted
        Path(closed).chmod(0o711)
        assert process.socket_root(wanted) == wanted


def test_engine_is_not_found_where_docker_host_is_dead(tmp_path: Path) -> None:
    """DOCKER_HOST is the only address tried where it is set."""
    assert engine.find({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}) is None
    assert engine.find({"DOCKER_HOST": "ftp://example.org"}) is None


@pytest.mark.docker
@pytest.mark.root
@pytest.mark.slow
def test_own_engine_starts_twice_and_leaves_nothing(tmp_path: Path) -> None:
    """In a network of its own, our engine starts beside another one, answers, and stops with all of its files gone."""
    program = f"""
import sys
from pathlib import Path
from scripts import engine
from scripts.service.docker import Docker
engine.find = lambda: None  # no other engine
docker = Docker(Path({str(tmp_path)!r}))
for _ in range(2):
    assert docker.find() is None
    variables = docker.start()
    assert docker.find() == variables
    assert engine.Engine(variables["DOCKER_HOST"]).call("GET", "/info")["Containers"] == 0
    pid = docker.find_pid()
    docker.stop()
    docker.stop()
    assert docker.find() is None and not Path(f"/proc/{{pid}}").exists()
    assert not docker.home.exists() and not docker.run.exists()
"""
    command = ["unshare", "--net", "--mount", sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": str(services.ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.docker
def test_image_is_made_from_packages() -> None:
    """The image holds a shell and a Python that runs, though nothing of it was installed anywhere."""
    from tests.support.python_image import python_image

    address = engine.find()
    assert address
    api = Engine(address)
    command = ["sh", "-c", "python3 -c 'import json, sqlite3, ssl, unittest, zipfile' && test -w /tmp"]
    container = api.call("POST", "/containers/create", {"Image": python_image(), "Cmd": command})["Id"]
    try:
        api.call("POST", f"/containers/{container}/start")
        assert api.call("POST", f"/containers/{container}/wait")["StatusCode"] == 0
    finally:
        api.call("DELETE", f"/containers/{container}", force="true")
        api.close()
