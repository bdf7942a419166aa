"""The driver on the real engine: what the conformance suite can't ask of every driver."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from stretto.core.errors import DriverError
from stretto.core.ports import Tree
from stretto.core.states import Reason, Status
from stretto.drivers.docker import DockerDriver, DockerSettings
from stretto.drivers.docker.container import Place
from tests.support.images import BUSYBOX, engine_answers, engine_call, engine_socket, import_image, remove_image
from tests.unit.drivers.docker.support import launch, read_log, run

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(not engine_answers(), reason="no Docker engine answers; start one with scripts/services up"),
]

IMAGES: dict[str, dict[str, Any]] = {
    "busybox": {"shell": BUSYBOX},
    "dash": {"shell": Path("/bin/dash")},
    "bash": {"shell": Path("/bin/bash")},
    "bare": {"shell": None},
    "user": {"changes": ("USER 1000",)},
}


@pytest.fixture(scope="module")
def images() -> Iterator[dict[str, str]]:
    """Images by what is special about them."""
    made = {kind: import_image(f"stretto-unit-{os.getpid()}:{kind}", **how) for kind, how in IMAGES.items()}
    yield made
    for name in made.values():
        remove_image(name)


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[DockerDriver]:
    """A driver with an installation of its own, which leaves nothing."""
    driver = make_driver(tmp_path)
    yield driver
    for handle in await driver.orphans():
        await driver.remove(handle)
    assert await driver.orphans() == []
    await driver.close()


def make_driver(tmp_path: Path, **settings: Any) -> DockerDriver:
    """Return a driver of the test's installation."""
    return DockerDriver(DockerSettings(**{"pull": "never", **settings}), installation=f"unit-{tmp_path.name}")


@pytest.mark.parametrize("shell", ["busybox", "dash", "bash"])
async def test_script_runs_as_written(driver: DockerDriver, images: dict[str, str], tmp_path: Path, shell: str) -> None:
    """Quotes, heredocs, functions, lines of several lines and `cd` work in every shell, and nothing goes on after a failure."""
    what = launch(
        tmp_path,
        "echo 'hello world'",
        "touch x",
        'greet() {\n  echo "hi $1"\n}',
        "greet you",
        "cat <<EOF\nit's $((1 + 1)) `echo here`\nEOF",
        "mkdir sub",
        "cd sub",
        "pwd >&2",
        "ls ..",
        "false",
        "echo never",
        image=images[shell],
        after=("echo after; pwd",),
    )
    log, outcome = await run(driver, what)
    assert log == b"hello world\nhi you\nit's 2 here\n/workspace/sub\nsub\nx\nafter\n/workspace\n"
    assert (outcome.exit_code, outcome.reason) == (1, Reason.EXIT_CODE)


@pytest.mark.parametrize("shell", ["busybox", "dash", "bash"])
async def test_orphans_of_the_job_are_reaped(
    driver: DockerDriver, images: dict[str, str], tmp_path: Path, shell: str
) -> None:
    """Process 1 collects processes whose parents have gone, so that none stays a zombie."""
    lines = ["i=0; while [ $i -lt 5 ]; do (true & true &); i=$((i+1)); done", "sleep 0.3"]
    log, _ = await run(
        driver, launch(tmp_path, *lines, "grep -l '(.*) Z ' /proc/[0-9]*/stat || echo none", image=images[shell])
    )
    assert log == b"none\n"


async def test_job_keeps_default_signals_and_no_input(
    driver: DockerDriver, images: dict[str, str], tmp_path: Path
) -> None:
    """The job's shell ignores neither INT nor TERM, and its input is empty."""
    what = launch(tmp_path, "grep SigIgn /proc/$$/status", "cat", "echo done", image=images["busybox"])
    _, ignored, done = (await run(driver, what))[0].split()
    assert int(ignored, 16) & (1 << signal.SIGINT - 1 | 1 << signal.SIGTERM - 1) == 0
    assert done == b"done"


async def test_large_output_comes_whole_with_bounded_memory(
    driver: DockerDriver, images: dict[str, str], tmp_path: Path
) -> None:
    """100 MB to a slow reader: the job is held up, and this process grows by a few MB at most."""
    size = 100_000_000
    what = launch(tmp_path, f"head -c {size} /dev/zero | tr '\\0' '\\377'", image=images["busybox"])
    handle = await driver.start(what)
    before, seen, largest = resident_bytes(), 0, 0
    async for chunk in driver.logs(handle, 0):
        assert chunk.data.count(b"\xff") == len(chunk.data)
        seen += len(chunk.data)
        largest = max(largest, resident_bytes())
    assert seen == size
    assert (await driver.wait(handle)).status is Status.SUCCESS
    assert largest - before < 20_000_000


def resident_bytes() -> int:
    """Return the memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


async def test_unread_output_does_not_hold_the_job_up(
    driver: DockerDriver, images: dict[str, str], tmp_path: Path
) -> None:
    """A job that nobody listens to ends, and its log can be had afterwards, byte for byte."""
    what = launch(tmp_path, "yes | head -c 6000000", image=images["busybox"])
    handle = await driver.start(what)
    assert (await driver.wait(handle)).status is Status.SUCCESS
    assert await read_log(driver, handle, 1) == (b"y\n" * 3_000_000)[1:]


async def test_want_of_memory_is_oom(images: dict[str, str], tmp_path: Path) -> None:
    """A job above its limit is killed, for the reason `oom`."""
    driver = make_driver(tmp_path, memory_bytes=16 * 1024 * 1024)
    what = launch(tmp_path, "head -c 200m /dev/zero | tail -n 1 >/dev/null", image=images["busybox"])
    handle = await driver.start(what)
    outcome = await driver.wait(handle)
    await driver.remove(handle)
    await driver.close()
    assert (outcome.status, outcome.reason) == (Status.FAILED, Reason.OOM)


@pytest.mark.parametrize(
    ("kind", "user", "word"),
    [("bare", None, "/bin/sh"), ("busybox", "nosuch", "nosuch"), ("busybox", "root:nogroup-such", "nogroup-such")],
)
async def test_container_that_cannot_start_says_why(
    driver: DockerDriver, images: dict[str, str], tmp_path: Path, kind: str, user: str | None, word: str
) -> None:
    """No shell, or no such user, is `start_failed` with a message that names it and a hint."""
    what = launch(tmp_path, "true", image=images[kind], user=user)
    with pytest.raises(DriverError, match=word) as caught:
        await driver.start(what)
    assert caught.value.reason == Reason.START_FAILED
    assert caught.value.hint


async def test_missing_image_is_image_missing(driver: DockerDriver, tmp_path: Path) -> None:
    """With the policy `never` an image that isn't there has a reason of its own; so has a name that is none."""
    for name in ("stretto-no-such:1", "UPPER CASE"):
        with pytest.raises(DriverError) as caught:
            await driver.start(launch(tmp_path, "true", image=name))
        assert caught.value.reason == Reason.IMAGE_MISSING


async def test_failed_pull_is_image_pull(tmp_path: Path) -> None:
    """A registry that isn't there makes a pull fail, without credentials in the message."""
    driver = make_driver(tmp_path, pull="missing")
    with pytest.raises(DriverError, match="can't be pulled") as caught:
        await driver.start(launch(tmp_path, "true", image="127.0.0.1:1/none:1"))
    assert caught.value.reason == Reason.IMAGE_PULL
    await driver.close()


async def test_image_that_vanished_is_looked_for_again(driver: DockerDriver, tmp_path: Path) -> None:
    """An image known from an earlier attempt and removed since is missing, not an odd refusal."""
    name = import_image(f"stretto-unit-{os.getpid()}:brief")
    handle = await driver.start(launch(tmp_path, "true", image=name))
    await driver.wait(handle)
    await driver.remove(handle)
    remove_image(name)
    with pytest.raises(DriverError) as caught:
        await driver.start(launch(tmp_path, "true", image=name))
    assert caught.value.reason == Reason.IMAGE_MISSING


def make_tree(tmp_path: Path) -> Tree:
    """Return a tree of one layer."""
    base = tmp_path / "base"
    (base / "src").mkdir(parents=True)
    (base / "src/a").write_text("one\n")
    (base / "src/b").write_text("two\n")
    return Tree((base,))


@pytest.mark.parametrize(("kind", "user"), [("busybox", "job"), ("busybox", "1000:1000"), ("user", None)])
async def test_other_user_may_write_the_tree(
    driver: DockerDriver, images: dict[str, str], tmp_path: Path, kind: str, user: str | None
) -> None:
    """A user other than root, of the job or of the image, owns the tree; artifacts are still only what changed."""
    tree = make_tree(tmp_path)
    what = launch(
        tmp_path,
        "id -u",
        "echo new >src/a",
        "touch made",
        image=images[kind],
        user=user,
        tree=tree,
        before=("umask 077",),
    )
    handle = await driver.start(what)
    log, outcome = await asyncio.gather(read_log(driver, handle), driver.wait(handle))
    assert (log, outcome.exit_code) == (b"1000\n", 0)
    assert [file.path for file in await driver.collect(handle, ["**"], 10_000)] == ["made", "src/a"]
    assert (tmp_path / "base/src/a").read_text() == "one\n"


async def test_tree_is_mounted_here_where_volumes_fail(
    driver: DockerDriver, images: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that can't mount overlay volumes gets the view from this host, at once and from then on."""
    from stretto.drivers.docker import tree as tree_module

    real = tree_module.mount_of

    def broken(view: Any, name: str, labels: dict[str, str]) -> dict[str, Any]:
        mount = real(view, name, labels)
        if mount["Type"] == "volume":
            mount["VolumeOptions"]["DriverConfig"]["Options"]["o"] += ",nosuchoption=1"
        return mount

    monkeypatch.setattr(tree_module, "mount_of", broken)
    for _ in range(2):
        what = launch(tmp_path, "cat src/b", "echo x >c", image=images["busybox"], tree=make_tree(tmp_path / str(_)))
        handle = await driver.start(what)
        log, _outcome = await asyncio.gather(read_log(driver, handle), driver.wait(handle))
        assert log == b"two\n"
        assert [file.path for file in await driver.collect(handle, ["c"], 100)] == ["c"]
        await driver.remove(handle)
        assert not what.directory.exists()


async def test_prepared_with_another_tree_is_made_anew(
    driver: DockerDriver, images: dict[str, str], tmp_path: Path
) -> None:
    """What was prepared before the needs' artifacts were known starts with them all the same."""
    tree = make_tree(tmp_path)
    what = launch(tmp_path, "cat src/a", image=images["busybox"], tree=tree)
    await driver.prepare(what)
    artifacts = tmp_path / "artifacts"
    (artifacts / "src").mkdir(parents=True)
    (artifacts / "src/a").write_text("from a need\n")
    changed = type(what)(what.key, what.job, what.directory, Tree((artifacts, *tree.lowers)))
    assert (await run(driver, changed))[0] == b"from a need\n"


async def test_prepared_container_runs_already(driver: DockerDriver, images: dict[str, str], tmp_path: Path) -> None:
    """Preparing starts the container, whose processes wait without a line of the script."""
    what = launch(tmp_path, "echo ran", image=images["busybox"])
    await driver.prepare(what)
    state = engine_call("GET", f"/containers/{what.key.name}/json")[1]["State"]
    assert state["Running"] is True
    assert not (what.directory / "control/started").exists()
    assert (await run(driver, what))[0] == b"ran\n"


async def test_ended_container_never_runs_again(driver: DockerDriver, images: dict[str, str], tmp_path: Path) -> None:
    """Restarted from outside, or started again after its removal from outside, the script does not run twice."""
    what = launch(tmp_path, "echo run >>/stretto/runs", image=images["busybox"])
    handle = await driver.start(what)
    await driver.wait(handle)
    engine_call("POST", f"/containers/{what.key.name}/wait")
    engine_call("POST", f"/containers/{what.key.name}/restart")
    assert (what.directory / "control/runs").read_text() == "run\n"
    engine_call("DELETE", f"/containers/{what.key.name}?force=true")
    second = make_driver(tmp_path)
    assert await second.start(what) == handle
    assert (what.directory / "control/runs").read_text() == "run\n"
    await second.close()


async def test_created_container_is_started(driver: DockerDriver, images: dict[str, str], tmp_path: Path) -> None:
    """A container that was created and, its orchestrator being gone, never started is what `start` goes on with."""
    what = launch(tmp_path, "echo ran", image=images["busybox"])
    await driver.prepare(what)
    await driver.close()
    engine_call("POST", f"/containers/{what.key.name}/kill")
    engine_call("POST", f"/containers/{what.key.name}/wait")
    second = make_driver(tmp_path)
    before = engine_call("GET", f"/containers/{what.key.name}/json")[1]["Id"]
    assert (await run(second, what))[0] == b"ran\n"
    assert engine_call("GET", f"/containers/{what.key.name}/json")[1]["Id"] == before
    await second.close()


async def test_installations_leave_each_other_alone(
    driver: DockerDriver, images: dict[str, str], tmp_path: Path
) -> None:
    """What one installation made is no orphan of another."""
    other = DockerDriver(DockerSettings(pull="never"), installation="somebody-else")
    await driver.prepare(launch(tmp_path, "true", image=images["busybox"]))
    assert len(await driver.orphans()) == 1
    assert await other.orphans() == []
    await other.close()


CHILD = """
import asyncio, sys
from pathlib import Path
from stretto.drivers.docker import DockerDriver, DockerSettings
from stretto.core.ports import Launch
from stretto.core.spec import AttemptKey, ContainerSpec, JobSpec, Script
image, directory, installation, run, job = sys.argv[1:]
key = AttemptKey(run, job, 1)
spec = JobSpec(job, "test", "docker", script=Script(("echo run >>/stretto/runs", "echo ran")), container=ContainerSpec(image))
async def main():
    driver = DockerDriver(DockerSettings(pull="never"), installation=installation)
    print("go", flush=True)
    await driver.start(Launch(key, spec, Path(directory)))
    print("started", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.slow
async def test_killed_orchestrator_loses_and_repeats_nothing(
    driver: DockerDriver, images: dict[str, str], tmp_path: Path
) -> None:
    """Killed at any moment of a start, its successor ends with the same log, outcome and one run."""
    for i in range(12):
        what = launch(tmp_path, "echo run >>/stretto/runs", "echo ran", image=images["busybox"])
        arguments = [images["busybox"], str(what.directory), f"unit-{tmp_path.name}", what.key.run_id, what.key.job]
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, *arguments, stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        assert await child.stdout.readline() == b"go\n"
        await asyncio.sleep(i * 0.03)
        child.kill()
        await child.communicate()
        log, outcome = await run(driver, what)
        assert (log, outcome.exit_code) == (b"ran\n", 0)
        assert (what.directory / "control/runs").read_text() == "run\n"
        await driver.remove(Place.of(what.key, what.directory).handle())
        assert not what.directory.exists()


async def test_stop_reaches_every_process_and_lets_after_run(
    driver: DockerDriver, images: dict[str, str], tmp_path: Path
) -> None:
    """TERM goes to background processes too, `after` runs within the grace time, and the outcome says killed."""
    what = launch(
        tmp_path,
        "(trap 'echo inner got it; exit' TERM; echo up; while :; do sleep 0.05; done) &",
        "wait",
        image=images["busybox"],
        after=("echo after",),
    )
    handle = await driver.start(what)
    async for chunk in driver.logs(handle, 0):
        if b"up" in chunk.data:
            break
    await driver.stop(handle, 20)
    outcome = await driver.wait(handle)
    assert (outcome.status, outcome.reason) == (Status.FAILED, Reason.KILLED)
    log = await read_log(driver, handle)
    assert {b"inner got it", b"after"} <= set(log.splitlines())  # who of the two is quicker is open


ORDINARY = """
import asyncio, concurrent.futures.thread, os, sys, tempfile  # all imports before the rights are dropped
from pathlib import Path
from stretto.core.ports import Launch, Tree
from stretto.core.spec import AttemptKey, ContainerSpec, JobSpec, Script
from stretto.drivers.docker import DockerDriver, DockerSettings
image, directory, installation, group = sys.argv[1:]
os.setgroups([int(group)]); os.setgid(65534); os.setuid(65534)
home = Path(directory)
(home / "base").mkdir(); (home / "base/file").write_text("x")
async def main():
    driver = DockerDriver(DockerSettings(pull="never"), installation=installation)
    for user, path in ((None, "a/b/c"), ("job", "a/b/c"), (None, "closed")):
        key = AttemptKey("ordinary" + installation[-8:].replace("_", ""), f"{user}-{path[0]}", 1)
        script = Script(("umask 077", f"mkdir -p $(dirname {path})", f"echo made >{path}", "echo y >file"))
        spec = JobSpec(key.job, "test", "docker", script=script, container=ContainerSpec(image, user=user))
        handle = await driver.start(Launch(key, spec, home / key.name, Tree((home / "base",))))
        print((await driver.wait(handle)).status)
        print([(f.path, f.source.read_text()) for f in await driver.collect(handle, ["**"], 1000)])
        await driver.remove(handle)
    print(os.listdir(home), await driver.orphans())
    await driver.close()
asyncio.run(main())
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_ordinary_user_collects_and_removes_what_root_wrote(images: dict[str, str]) -> None:
    """Without being root: files that the container's root made are collected and deleted all the same."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        os.chown(directory, 65534, 65534)
        group = Path(engine_socket()).stat().st_gid
        arguments = [images["busybox"], directory, f"unit-{Path(directory).name}", str(group)]
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ORDINARY, *arguments, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate()
    deep, flat = (f"[('{path}', 'made\\n'), ('file', 'y\\n')]" for path in ("a/b/c", "closed"))
    assert output.decode().splitlines() == ["success", deep, "success", deep, "success", flat, "['base'] []"]
