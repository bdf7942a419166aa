"""The real program as somebody who is not root: no right to mount, nor to touch what a container's root wrote."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import stretto
from tests.support.background import until
from tests.support.cli import Result, jobs_of
from tests.support.images import engine_call, engine_socket
from tests.support.repository import make_repository

UID = 1000
PACKAGES = (Path(stretto.__file__).parents[1], Path(pytest.__file__).parents[1])


def is_open_to_all(path: Path) -> bool:
    """Whether anybody may go to `path` and execute, or search, it."""
    real = path.resolve()
    return all(part.stat().st_mode & stat.S_IXOTH for part in (real, *real.parents))


def find_python() -> Path | None:
    """Return an interpreter of this version that anybody may run: that of the tests, else the system's."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    candidates = (Path(sys.executable), Path("/usr/bin", version), Path("/usr/local/bin", version))
    usable = (path for path in candidates if path.exists() and is_open_to_all(path))
    return next(usable, None) if all(map(is_open_to_all, PACKAGES)) else None


PYTHON = find_python()
# Where no interpreter will do, no service is wanting: without the markers STRETTO_REQUIRE has nothing to say to the skip.
pytestmark = (
    pytest.mark.root
    if PYTHON
    else pytest.mark.skip(reason="another user can't read this interpreter and these packages, nor the system's own")
)
IN_DOCKER = [pytest.mark.docker] if PYTHON else []


class Person:
    """Somebody with a folder that is theirs: `home` is Stretto's, `repository` a pipeline's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.repository = folder / "home", folder / "repository"

    def own(self, pipeline: dict[str, Any]) -> None:
        """Get a repository with this pipeline, and nothing that is anybody else's."""
        files = {"pipeline.yml": json.dumps(pipeline), "deep/kept": "as it was\n", "tool": "#!/bin/sh\necho tool\n"}
        make_repository(self.repository, files)
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, UID, UID, follow_symlinks=False)

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `stretto ARGUMENTS` in the repository."""
        group = Path(engine_socket()).stat().st_gid if Path(engine_socket()).exists() else UID
        rights = (f"--reuid={UID}", f"--regid={UID}", f"--groups={group}", "--inh-caps=-all", "--no-new-privs")
        assert PYTHON is not None
        return subprocess.Popen(
            ["setpriv", *rights, PYTHON, "-m", "stretto", *arguments],
            cwd=self.repository,
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": str(self.folder),
                "STRETTO_HOME": str(self.home),
                "STRETTO_DOCKER_NETWORK": "none",
                "DOCKER_HOST": f"unix://{engine_socket()}",
                "PYTHONPATH": os.pathsep.join(map(str, PACKAGES)),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> Result:
        """Run `stretto ARGUMENTS` in the repository until it ends."""
        program = self.begin(*arguments)
        try:
            out, err = program.communicate(timeout=60)
        finally:
            program.kill()
        return Result(program.returncode, out.decode(), err.decode())

    def assert_tidy(self) -> None:
        """Check that nothing of an attempt is left, and that all there is belongs to the person."""
        assert list((self.home / "attempts").iterdir()) == []
        assert [path for path in self.folder.rglob("*") if path.lstat().st_uid != UID] == []
        label = f"dev.stretto.installation={(self.home / 'installation').read_text().strip()}"
        if Path(engine_socket()).exists():
            query = f'filters={{"label":["{label}"]}}'
            assert engine_call("GET", f"/containers/json?all=1&{query}")[1] == []
            assert not engine_call("GET", f"/volumes?{query}")[1]["Volumes"]


@pytest.fixture
def person() -> Iterator[Person]:
    """Somebody; their folder is not in pytest's own, which only root may enter."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="stretto-person-"))
    try:
        yield Person(folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["process", pytest.param("docker", marks=IN_DOCKER)])
def driver(request: pytest.FixtureRequest) -> str:
    """Each driver that runs a script; in Docker the script is root."""
    return str(request.param)


@pytest.fixture
def image_of(request: pytest.FixtureRequest, driver: str) -> str:
    """An image for the driver."""
    return str(request.getfixturevalue("image")) if driver == "docker" else "none:1"


def artifacts(job: dict[str, Any]) -> list[str]:
    """Return the paths of a job's artifacts."""
    return sorted(file["path"] for file in job["artifacts"])


WRITES: Sequence[str] = (
    "./tool",
    'test "$(cat deep/kept)" = "as it was"',
    "umask 077",
    "mkdir -p out/inner junk/inner",
    "echo built >out/inner/file",
    "echo more >>deep/kept",
    "echo junk >junk/inner/file",
    "echo secret >out/closed",
    "chmod 000 junk/inner/file junk/inner junk out/closed",
    "chmod 500 out/inner",
)


def test_run_of_an_ordinary_user_succeeds_and_leaves_nothing(person: Person, driver: str, image_of: str) -> None:
    """Trees, artifacts that are handed on, closed folders: all works, and nothing is left that the person can't delete."""
    build = {"stage": "build", "script": list(WRITES), "artifacts": {"paths": ["out", "deep/kept"]}}
    read = {
        "stage": "test",
        "script": [
            "cat out/inner/file out/closed deep/kept",
            'grep " $PWD" /proc/mounts || true',
            "echo x >>out/inner/file",
        ],
        "artifacts": {"paths": ["out"]},
    }
    person.own({"name": "app", "default": {"image": image_of}, "jobs": {"build": build, "read": read}})
    for _ in range(2):
        done = person.run("run", "--json", "-q", "--driver", driver)
        assert done.code == 0, done.err + done.out
        jobs = jobs_of(done.report)
        assert artifacts(jobs["build"]) == ["deep/kept", "out/closed", "out/inner/file"]
        assert artifacts(jobs["read"]) == ["out/inner/file"]
        log = person.run("logs", "latest", "read")
        assert log.out.startswith("built\nsecret\nas it was\nmore\n"), log
        if driver == "process":
            assert log.out == "built\nsecret\nas it was\nmore\n", "the tree is mounted"
        person.assert_tidy()
    gone = person.run("gc", "--keep-days", "0")
    assert gone.code == 0, gone.err
    assert [path.name for path in (person.home / "artifacts").rglob("*") if path.is_file()] == ["lock"]
    person.assert_tidy()


def test_run_of_an_ordinary_user_is_killed_and_resumed(person: Person, driver: str, image_of: str) -> None:
    """`kill -9` while a job runs, again while nothing does: the run goes on, and each script ran once."""
    one = {
        "stage": "build",
        "script": ["echo one", "mkdir out", "umask 077; echo 1 >out/1"],
        "artifacts": {"paths": ["out"]},
    }
    two = {"stage": "test", "script": ["echo two", "sleep 2", "cat out/1", "chmod 500 out"]}
    three = {"stage": "deploy", "script": ["cat out/1"]}
    person.own({"name": "app", "default": {"image": image_of}, "jobs": {"one": one, "two": two, "three": three}})
    program = person.begin("run", "--json", "-q", "--driver", driver)
    try:
        until(lambda: "two" in person.run("logs", "latest", "two").out, "line of the second job", deadline_s=15)
    finally:
        program.send_signal(signal.SIGKILL)
        program.communicate()
    done = person.run("resume", "1", "--json", "-q")
    assert done.code == 0, done.err + done.out
    jobs = jobs_of(done.report)
    assert Counter(job["status"] for job in jobs.values()) == {"success": 3}
    assert [len(job["attempts"]) for job in jobs.values()] == [1, 1, 1]
    assert person.run("logs", "1", "two").out == "two\n1\n"
    person.assert_tidy()
