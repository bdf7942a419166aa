"""Trees that one attempt left untouched and another one takes over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stretto.core.events import Handle
from stretto.core.ports import Launch, Tree
from stretto.core.spec import AttemptKey, JobSpec, Script
from stretto.drivers.process import ProcessDriver, ProcessSettings

pytestmark = pytest.mark.root


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[ProcessDriver]:
    """A driver under which one attempt is under way all the time, as trees are kept no longer than that."""
    driver = ProcessDriver(ProcessSettings(attempts=tmp_path / "attempts"))
    await driver.start(launch_of(tmp_path, "other", "sleep 60"))
    yield driver
    for handle in await driver.orphans():
        await driver.remove(handle)
    await driver.close()


def launch_of(directory: Path, job: str, *lines: str, run: str = "run") -> Launch:
    """Return the launch of a script in a tree of one file."""
    layer = directory / "layer"
    layer.mkdir(exist_ok=True)
    (layer / "file").write_text("as it was")
    key = AttemptKey(run, job, 1)
    spec = JobSpec(job, "test", "process", script=Script(lines))
    return Launch(key, spec, directory / "attempts" / key.name, tree=Tree((layer,)))


async def run(driver: ProcessDriver, launch: Launch) -> tuple[Handle, int]:
    """Run an attempt to its end; return its handle and the number of the file system that its tree is."""
    handle = await driver.start(launch)
    device = (launch.directory / "view/tree").stat().st_dev
    async with asyncio.timeout(30):
        outcome = await driver.wait(handle)
    assert outcome.exit_code == 0
    return handle, device


async def test_untouched_tree_serves_the_next_attempt(driver: ProcessDriver, tmp_path: Path) -> None:
    """It is the same mount, with the same files, and of the first attempt nothing but that is left."""
    first, second = (launch_of(tmp_path, job, "test 'as it was' = \"$(cat file)\"") for job in ("a", "b"))
    handle, device = await run(driver, first)
    await driver.remove(handle)
    assert {path.name for path in first.directory.iterdir()} == {"key", "view"}
    assert (await run(driver, second))[1] == device
    assert not first.directory.exists()


@pytest.mark.parametrize(
    "change",
    ["echo x >file", "touch new", "rm file", "touch new; rm new", "chmod 700 .", "touch -d 2001-01-01 ."],
)
async def test_touched_tree_is_not_kept(driver: ProcessDriver, tmp_path: Path, change: str) -> None:
    """Whatever a script did to its tree, the next one does not get it."""
    launch = launch_of(tmp_path, "a", "sleep 0.05", change)
    handle, _ = await run(driver, launch)
    await driver.remove(handle)
    assert not launch.directory.exists()


async def test_tree_that_somebody_works_in_is_not_kept(driver: ProcessDriver, tmp_path: Path) -> None:
    """A process that is none of the attempt's, and so outlives it, keeps the tree to itself."""
    launch = launch_of(tmp_path, "a", "true")
    handle, _ = await run(driver, launch)
    stray = await asyncio.create_subprocess_exec("sleep", "60", cwd=launch.directory / "view/tree")
    await driver.remove(handle)
    stray.kill()
    await stray.wait()
    assert not launch.directory.exists()


async def test_tree_is_not_kept_for_another_run(driver: ProcessDriver, tmp_path: Path) -> None:
    """What one run left is nothing to another."""
    handle, _ = await run(driver, first := launch_of(tmp_path, "a", "true"))
    await driver.remove(handle)
    await run(driver, launch_of(tmp_path, "b", "true", run="another"))
    assert first.directory.exists()


async def test_kept_trees_go_with_the_last_attempt(tmp_path: Path) -> None:
    """Nothing is left when the last attempt is removed, or the driver closed."""
    driver = ProcessDriver(ProcessSettings(attempts=tmp_path / "attempts"))
    handles = [(await run(driver, launch_of(tmp_path, job, "true")))[0] for job in ("a", "b", "c")]
    await driver.remove(handles[0])
    assert await driver.orphans() != []
    for handle in handles[1:]:
        await driver.remove(handle)
    assert await driver.orphans() == []
    handles = [(await run(driver, launch_of(tmp_path, job, "true")))[0] for job in ("d", "e")]
    await driver.remove(handles[0])
    await driver.close()
    assert [handle.key for handle in await driver.orphans()] == [handles[1].key]
    await driver.remove(handles[1])


async def test_kept_tree_is_an_orphan_of_a_driver_that_died(driver: ProcessDriver, tmp_path: Path) -> None:
    """Another driver finds what was kept by its key and removes it, mount and all; the one that kept it gets over that."""
    handle, _ = await run(driver, first := launch_of(tmp_path, "a", "true"))
    await driver.remove(handle)
    second = ProcessDriver(ProcessSettings(attempts=tmp_path / "attempts"))
    assert handle in await second.orphans()
    await second.remove(handle)
    await second.close()
    assert not first.directory.exists()
    await run(driver, launch_of(tmp_path, "b", "test -f file"))
