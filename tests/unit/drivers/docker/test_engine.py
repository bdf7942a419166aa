"""Engines that die, are elsewhere, or are reached in another way. Each test module run has a dockerd of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from stretto.core.errors import EngineUnavailableError
from stretto.core.ports import Tree
from stretto.core.states import Reason, Status
from stretto.drivers.docker import DockerDriver, DockerSettings
from tests.unit.drivers.docker.support import Engine, launch, read_log, run, started

pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("dockerd") is None, reason="needs root and dockerd"),
]

IMAGE = "stretto-engine:1"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that sees this host's files and may be killed; who kills it starts it again."""
    with started(tmp_path_factory.mktemp("here"), IMAGE) as engine:
        yield engine


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of this host that the engine elsewhere does not see."""
    return tmp_path_factory.mktemp("hidden")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, hidden: Path) -> Iterator[Engine]:
    """An engine to which this host's files are not there: it lives in a mount namespace of its own."""
    with started(tmp_path_factory.mktemp("there"), IMAGE, hidden=hidden) as engine:
        yield engine


def driver_of(engine: Engine, **settings: Any) -> DockerDriver:
    """Return a driver of the engine."""
    return DockerDriver(
        DockerSettings(**{"host": engine.host, "pull": "never", "network": "none", **settings}), installation="engines"
    )


@pytest.fixture
async def driver(engine: Engine) -> AsyncIterator[DockerDriver]:
    """A driver of the engine here."""
    driver = driver_of(engine)
    yield driver
    for handle in await driver.orphans():
        await driver.remove(handle)
    await driver.close()


async def test_engine_killed_under_a_job_ends_it_properly(engine: Engine, driver: DockerDriver, tmp_path: Path) -> None:
    """The engine dies and comes back while a job runs: the wait ends with what became of the job, the log with what it wrote."""
    what = launch(tmp_path, "echo begun", "sleep 1000", image=IMAGE)
    handle = await driver.start(what)
    logs = driver.logs(handle, 0)
    assert (await anext(logs)).data == b"begun\n"
    rest = asyncio.create_task(_rest(logs))
    waiting = asyncio.create_task(driver.wait(handle))
    await asyncio.to_thread(engine.kill)
    await asyncio.to_thread(engine.start)
    async with asyncio.timeout(60):
        outcome = await waiting
        assert outcome.status is Status.FAILED
        assert outcome.reason in (Reason.LOST, Reason.KILLED)
        assert outcome.message
        assert await rest == b""
    assert await read_log(driver, handle) == b"begun\n"
    assert await driver.start(what) == handle
    assert (await driver.wait(handle)).reason == outcome.reason


async def _rest(logs: Any) -> bytes:
    return b"".join([chunk.data async for chunk in logs])


async def test_job_that_ends_while_the_engine_is_away_succeeds(
    engine: Engine, driver: DockerDriver, tmp_path: Path
) -> None:
    """What the job's own record says counts, also if the engine has missed it."""
    handle = await driver.start(launch(tmp_path, "sleep 1", image=IMAGE))
    async for _ in driver.logs(handle, 0):
        pass
    await asyncio.to_thread(engine.kill)
    try:
        assert (await driver.wait(handle)).status is Status.SUCCESS
    finally:
        await asyncio.to_thread(engine.start)


async def test_engine_that_stays_away_is_unavailable(engine: Engine, tmp_path: Path) -> None:
    """A wait and a log end in bounded time when the engine does not come back; the attempt can be had once it does."""
    driver = driver_of(engine, reconnect_s=0.5)
    handle = await driver.start(launch(tmp_path, "sleep 1000", image=IMAGE))
    await asyncio.to_thread(engine.kill)
    try:
        async with asyncio.timeout(20):
            with pytest.raises(EngineUnavailableError) as caught:
                await driver.wait(handle)
            assert caught.value.reason == Reason.ENGINE_UNAVAILABLE
            with pytest.raises(EngineUnavailableError):
                await read_log(driver, handle)
    finally:
        await asyncio.to_thread(engine.start)
    await driver.remove(handle)
    assert await driver.orphans() == []
    await driver.close()


async def test_prepared_attempt_survives_an_engine_restart(
    engine: Engine, driver: DockerDriver, tmp_path: Path
) -> None:
    """An attempt that waited at its gate when the engine died runs, once, when it is started afterwards."""
    what = launch(tmp_path, "echo run >>/stretto/runs", "echo ran", image=IMAGE)
    await driver.prepare(what)
    await asyncio.to_thread(engine.kill)
    await asyncio.to_thread(engine.start)
    assert (await run(driver, what))[0] == b"ran\n"
    assert (what.directory / "control/runs").read_text() == "run\n"


async def test_engine_elsewhere_gets_tree_and_gives_artifacts(elsewhere: Engine, hidden: Path) -> None:
    """An engine that does not see this host's files: tree and script are uploaded, artifacts fetched, nothing left."""
    base = hidden / "base"
    (base / "bin").mkdir(parents=True)
    (base / "bin/tool").write_text("#!/bin/sh\necho tool\n")
    (base / "bin/tool").chmod(0o755)
    (base / "kept").write_text("as it was\n")
    for user in (None, "job"):
        driver = driver_of(elsewhere)
        what = launch(
            hidden,
            "bin/tool; id -u",
            "mkdir -p dist/deep; echo new >dist/deep/a; echo more >>kept; ln -s a dist/deep/link; ln -s /etc/passwd dist/out",
            "exit 255",
            image=IMAGE,
            user=user,
            tree=Tree((base,)),
        )
        await driver.prepare(what)
        log, outcome = await run(driver, what)
        assert log == b"tool\n" + (b"0\n" if user is None else b"1000\n")
        assert (outcome.exit_code, outcome.reason) == (255, Reason.EXIT_CODE)
        assert outcome.started_at is not None
        assert outcome.ended_at is not None
        assert outcome.started_at <= outcome.ended_at
        second = driver_of(elsewhere)
        handle = await second.start(what)
        assert await second.wait(handle) == outcome
        assert await read_log(second, handle, 2) == log[2:]
        files = {file.path: file for file in await second.collect(handle, ["dist/**", "kept"], 10_000)}
        assert sorted(files) == ["dist/deep/a", "dist/deep/link", "kept"]
        assert files["kept"].source.read_text() == "as it was\nmore\n"
        assert files["dist/deep/link"].link == "a"
        await second.remove(handle)
        assert not what.directory.exists()
        assert await second.orphans() == []
        await second.close()
        await driver.close()


async def test_upload_that_was_cut_off_is_done_again(elsewhere: Engine, hidden: Path) -> None:
    """A container that was created and did not get its files is started with them by the next orchestrator."""
    base = hidden / "cut"
    base.mkdir()
    (base / "file").write_text("there\n")
    driver = driver_of(elsewhere)
    what = launch(hidden, "cat file", image=IMAGE, tree=Tree((base,)))
    launcher = driver._launcher
    await launcher._create(await launcher._plan(what))
    await driver.close()
    second = driver_of(elsewhere)
    log, outcome = await run(second, what)
    assert (log, outcome.exit_code) == (b"there\n", 0)
    for handle in await second.orphans():
        await second.remove(handle)
    await second.close()


async def test_ssh_reaches_the_engine(
    elsewhere: Engine, hidden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over ssh the far end is `docker system dial-stdio`; here a stand-in for ssh runs it against the engine."""
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\n'
        f'echo "$2: $3" >>{tmp_path}/asked\nDOCKER_HOST={elsewhere.host} exec $3\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    driver = driver_of(elsewhere, host="ssh://me@far")
    what = launch(hidden, "echo over ssh", image=IMAGE)
    log, outcome = await run(driver, what)
    assert (log, outcome.exit_code) == (b"over ssh\n", 0)
    assert (tmp_path / "asked").read_text().startswith("far: docker system dial-stdio\n")
    for handle in await driver.orphans():
        await driver.remove(handle)
    await driver.close()
