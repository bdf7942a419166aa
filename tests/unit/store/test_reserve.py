"""The room that is kept for the end of a run on a full disk."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stretto.core.errors import DiskFullError
from stretto.core.ports import NewRun
from stretto.core.spec import RunSpec
from stretto.store.reserve import SIZE_BYTES, Reserve
from stretto.store.sqlite import SqliteStore


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def fill(place: Path) -> None:
    """Take the last block of a file system."""
    with (place / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass


async def write_until_full(store: SqliteStore, new: NewRun) -> int:
    """Return how many runs could be stored."""
    for written in range(1000):
        try:
            await store.create_run(new)
        except DiskFullError:
            return written
    raise AssertionError("the disk never got full")


def test_reserve_is_kept_once_and_given_once(tmp_path: Path) -> None:
    """The file has its whole size on the disk, and only the first who asks gets it."""
    path = tmp_path / "reserve"
    reserve = Reserve(path)
    reserve.keep()
    Reserve(path).keep()
    assert path.stat().st_blocks * 512 >= SIZE_BYTES
    assert reserve.give()
    assert not Reserve(path).give()


@pytest.mark.root
async def test_store_writes_on_with_its_reserve_when_the_disk_is_full(small_disk: Path) -> None:
    """A full disk takes some more commits, then tells that it is full, and works again when there is room."""
    store = await SqliteStore.open(small_disk / "stretto.db")
    new = NewRun(RunSpec("pipeline", "p", ("a",), ()), datetime.now(UTC), by="x" * 20_000)
    await asyncio.to_thread(fill, small_disk)
    written = await write_until_full(store, new)
    assert written >= 10
    (small_disk / "ballast").unlink()
    row, _ = await store.create_run(new)
    assert row.number == written + 1
    await store.close()
