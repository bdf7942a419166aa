"""Logs in files: cut off anywhere, on a full disk, in little memory. What all log stores must do is in tests/conformance."""

from __future__ import annotations

import errno
import os
import random
import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stretto.core.errors import DiskFullError, StoreError
from stretto.core.ports import LogChunk
from stretto.core.spec import AttemptKey
from stretto.store import logs as subject
from stretto.store.logs import FileLogs
from stretto.store.place import attempt_path

BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = AttemptKey("run1", "a job/with: odd \N{SNOWMAN} name/..", 1)


def chunk(data: bytes, position: int, after_s: float = 0.0) -> LogChunk:
    return LogChunk(BEGIN + timedelta(seconds=after_s), data, position)


@pytest.fixture
def logs(tmp_path: Path) -> FileLogs:
    return FileLogs(tmp_path / "logs")


async def read(logs: FileLogs, key: AttemptKey = KEY, **options) -> bytes:
    return b"".join([part async for part in logs.read(key, **options)])


async def test_log_goes_on_after_a_crash(logs: FileLogs) -> None:
    """Cut off at any byte of either file, the log opens at the last whole record, and what is read is a whole prefix."""
    path = attempt_path(logs._root, KEY)
    writer = await logs.open(KEY)
    for i in range(5):
        await writer.append(chunk(b"%d" % i * 10, 1000 + i, after_s=i))
        await writer._flush()
    await writer.close()
    data, index = path.with_name(path.name + ".log"), path.with_name(path.name + ".index")
    whole, records = data.read_bytes(), index.read_bytes()
    for kept_data in (0, 9, 10, 35, 50):
        for kept_index in range(0, len(records) + 1, 7):
            data.write_bytes(whole[:kept_data])
            index.write_bytes(records[:kept_index])
            count = min(kept_data // 10, kept_index // 24)
            again = await logs.open(KEY)
            assert again.position == (1000 + count - 1 if count else 0)
            await again.append(chunk(b"more", 2000, after_s=9))
            await again.close()
            assert await read(logs, follow=True) == whole[: count * 10] + b"more"


async def test_full_disk_is_told_and_survived(logs: FileLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room `append` is DiskFullError; `position` then is where the file stands, and writing goes on from there."""
    room = 100_000

    def pwrite(file: int, data: memoryview, offset: int) -> int:
        if offset + len(data) > room:
            if offset >= room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(file, data[: room - offset], offset)
        return real(file, data, offset)

    real = os.pwrite
    monkeypatch.setattr(subject.os, "pwrite", pwrite)
    writer = await logs.open(KEY)
    whole = random.Random(1).randbytes(300_000)
    failures = 0
    while True:
        try:
            while writer.position < len(whole):
                data = whole[writer.position : writer.position + 30_000]
                await writer.append(chunk(data, writer.position + len(data)))
            await writer.close()
            break
        except DiskFullError:
            failures += 1
            assert await read(logs) == whole[: writer.position]
            room += 70_000
            if writer._files is None:  # it was the end that found no room
                writer = await logs.open(KEY)
    assert failures >= 3
    assert await read(logs, follow=True) == whole


async def test_logs_of_any_job_names_are_apart(logs: FileLogs) -> None:
    """Job names with slashes, dots, capitals and attempts of one job each have a log of their own, inside the root."""
    keys = [AttemptKey("r", name, n) for name in ("a", "A", "a/b", "a-b", "../a", ".", "x" * 300) for n in (1, 2)]
    for key in keys:
        writer = await logs.open(key)
        await writer.append(chunk(key.text.encode(), 1))
        await writer.close()
    assert [await read(logs, key) for key in keys] == [key.text.encode() for key in keys]
    assert {path.parent for path in logs._root.rglob("*.log")} == {logs._root / "r"}
    with pytest.raises(StoreError, match="not a run id"):
        await logs.open(AttemptKey("../etc", "a", 1))


async def test_delete_frees_the_bytes(logs: FileLogs) -> None:
    """Deleting a run's logs returns their size, and zero the second time."""
    writer = await logs.open(KEY)
    await writer.append(chunk(b"x" * 5000, 5000))
    await writer.close()
    assert await logs.delete("run1") == 5000 + 2 * 24
    assert await logs.delete("run1") == 0
    assert await read(logs) == b""
    assert await logs.lines(KEY) == []


async def test_hundred_megabytes_take_little_memory(logs: FileLogs) -> None:
    """Writing and reading 100 MB needs no more than a few of them at a time."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    block = random.Random(5).randbytes(100_000)
    writer = await logs.open(KEY)
    for i in range(1000):
        await writer.append(chunk(block, (i + 1) * len(block), after_s=i))
    await writer.close()
    size = 0
    async for part in logs.read(KEY, follow=True):
        size += len(part)
    assert size == 100_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
