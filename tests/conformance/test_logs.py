"""What every log store must do: every byte, in order, live, from any offset, whoever dies."""

from __future__ import annotations

import asyncio
import random
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stretto.core.errors import StoreError
from stretto.core.ports import LogChunk, LogStore
from stretto.core.spec import AttemptKey

from .logs import child
from .logs.harness import HARNESSES, Harness

BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = AttemptKey("run1", "a job/with: odd \N{SNOWMAN} name/..", 1)
MIB = 1 << 20


def chunk(data: bytes, position: int, after_s: float = 0.0) -> LogChunk:
    return LogChunk(BEGIN + timedelta(seconds=after_s), data, position)


@pytest.fixture(params=["files", pytest.param("postgres", marks=pytest.mark.postgres)])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    harness = HARNESSES[request.param](tmp_path)
    yield harness
    harness.drop()


@pytest.fixture
async def open_logs(harness: Harness) -> AsyncIterator[object]:
    """A function that opens the logs once more, as another process would; all are closed at the end."""
    async with AsyncExitStack() as stack:
        yield lambda: stack.enter_async_context(harness.open())


@pytest.fixture
async def logs(open_logs) -> LogStore:
    return await open_logs()


async def read(logs: LogStore, key: AttemptKey = KEY, **options) -> bytes:
    return b"".join([part async for part in logs.read(key, **options)])


async def write(logs: LogStore, data: bytes, key: AttemptKey = KEY) -> None:
    writer = await logs.open(key)
    for start in range(0, len(data), 200_000):
        part = data[start : start + 200_000]
        await writer.append(chunk(part, start + len(part)))
    await writer.close()


async def test_log_gives_back_every_byte(logs: LogStore) -> None:
    """Chunks of all sizes and contents are read as they were written, from any offset."""
    chance = random.Random(3)
    whole = b""
    writer = await logs.open(KEY)
    for _ in range(300):
        data = chance.randbytes(chance.choice((1, 10, 1000, 70_000)))
        whole += data
        await writer.append(chunk(data, len(whole)))
    await writer.close()
    assert await read(logs) == whole
    assert await logs.size(KEY) == len(whole)
    for offset in (1, 123_456, len(whole) - 1, len(whole)):
        assert await read(logs, offset=offset) == whole[offset:]
    assert await read(logs, offset=len(whole) + 1, follow=True) == b""


async def test_reader_of_another_process_sees_what_is_there(open_logs) -> None:
    """What was closed by one is whole for another."""
    await write(await open_logs(), b"all of it")
    assert await read(await open_logs()) == b"all of it"


async def test_log_that_is_not_there_is_empty(logs: LogStore) -> None:
    """An attempt that wrote nothing has no log; a follower of it ends when told that the attempt is over."""
    asked = 0

    async def is_over() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2

    assert await read(logs) == b""
    assert await logs.size(KEY) == 0
    assert await logs.lines(KEY) == []
    async with asyncio.timeout(10):
        assert await read(logs, follow=True, is_over=is_over) == b""
    assert asked == 3


async def test_follower_sees_output_soon_and_ends_with_the_log(open_logs) -> None:
    """Whoever follows, from before the log exists, gets what another process appends, and ends at the close."""
    parts = (await open_logs()).read(KEY, follow=True)
    first = asyncio.ensure_future(anext(parts))
    await asyncio.sleep(0)
    writer = await (await open_logs()).open(KEY)
    await writer.append(chunk(b"hello\n", 6))
    async with asyncio.timeout(5):
        assert await first == b"hello\n"
    await writer.append(chunk(b"bye\n", 10))
    await writer.close()
    async with asyncio.timeout(5):
        assert b"".join([part async for part in parts]) == b"bye\n"


async def test_follower_in_another_process_is_not_far_behind(open_logs) -> None:
    """What is appended reaches a follower elsewhere within a tenth of a second, as the median of many."""
    writer = await (await open_logs()).open(KEY)
    await writer.append(chunk(b"x", 1))
    parts = (await open_logs()).read(KEY, follow=True)
    assert await anext(parts) == b"x"
    delays = []
    for i in range(15):
        ready = asyncio.ensure_future(anext(parts))
        begun = time.monotonic()
        await writer.append(chunk(b"%2d" % i, i * 2 + 3))
        async with asyncio.timeout(5):
            assert await ready == b"%2d" % i
        delays.append(time.monotonic() - begun)
    await writer.close()
    await parts.aclose()
    assert sorted(delays)[len(delays) // 2] < 0.15, delays  # a tenth and what a busy machine adds


async def test_follower_of_a_deleted_log_ends(logs: LogStore) -> None:
    """A follower does not wait for a log that was deleted."""
    writer = await logs.open(KEY)
    await writer.append(chunk(b"x", 1))
    parts = logs.read(KEY, follow=True)
    assert await anext(parts) == b"x"
    assert await logs.delete("run1") > 0
    async with asyncio.timeout(5):
        assert [part async for part in parts] == []


async def test_many_followers_share_one_log(open_logs) -> None:
    """Fifty clients that follow a long log while it is written all get every byte, in little memory."""
    size, followers = 8 * MIB, 50
    whole = random.Random(1).randbytes(size)
    reader = await open_logs()

    async def follow() -> int:
        got = 0
        async for part in reader.read(KEY, follow=True):
            assert part == whole[got : got + len(part)]
            got += len(part)
        return got

    writer = await (await open_logs()).open(KEY)
    await writer.append(chunk(whole[:1], 1))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        tasks = [group.create_task(follow()) for _ in range(followers)]
        await asyncio.sleep(0)
        tracemalloc.start()
        try:
            for start in range(1, size, 65_536):
                part = whole[start : start + 65_536]
                await writer.append(chunk(part, start + len(part)))
            await writer.close()
            for task in tasks:
                await task
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert {task.result() for task in tasks} == {size}
    assert peak < 50 * MIB, peak  # a log of their own for each would be 400


async def test_lines_have_the_time_of_their_first_byte(logs: LogStore) -> None:
    """A line that came in pieces has the time of its first; line ends are cut; the last line needs none."""
    writer = await logs.open(KEY)
    for i, data in enumerate((b"one\ntw", b"o", b"\r\nthr", b"ee\n\nfo\xff", b"ur")):
        await writer.append(chunk(data, i, after_s=i))
    await writer.close()
    lines = [(int((at - BEGIN).total_seconds()), line) for at, line in await logs.lines(KEY)]
    assert lines == [(0, b"one"), (0, b"two"), (2, b"three"), (3, b""), (3, b"fo\xffur")]


async def test_lines_of_a_long_log(logs: LogStore) -> None:
    """Lines are whole wherever batches end."""
    whole = b"".join(b"line %d %s\n" % (i, b"." * (i % 300)) for i in range(5_000))
    await write(logs, whole)
    assert [line for _, line in await logs.lines(KEY)] == whole.splitlines()


async def test_log_that_was_complete_can_be_opened_again(open_logs) -> None:
    """A log closed just before a crash opens at its end, and closing it again changes nothing."""
    logs = await open_logs()
    for _ in range(3):
        writer = await logs.open(KEY)
        if not writer.position:
            await writer.append(chunk(b"all", 77))
        assert writer.position == 77
        await writer.close()
        await writer.close()
    assert await read(logs, follow=True) == b"all"
    with pytest.raises(StoreError, match="closed"):
        await writer.append(chunk(b"x", 78))


async def test_log_that_is_not_complete_is_written_on(open_logs) -> None:
    """A log that was let go of is written on by another process from its position, and a follower stays meanwhile."""
    writer = await (await open_logs()).open(KEY)
    await writer.append(chunk(b"one", 1001))
    await writer.close(complete=False)
    parts = (await open_logs()).read(KEY, follow=True)
    assert await anext(parts) == b"one"
    writer = await (await open_logs()).open(KEY)
    assert writer.position == 1001
    await writer.append(chunk(b"two", 1002))
    await writer.close()
    async with asyncio.timeout(5):
        assert [part async for part in parts] == [b"two"]


async def test_logs_of_any_job_names_are_apart(logs: LogStore) -> None:
    """Job names with slashes, dots, capitals and attempts of one job each have a log of their own; a run is no path."""
    keys = [AttemptKey("r", name, n) for name in ("a", "A", "a/b", "a-b", "../a", ".", "x" * 300) for n in (1, 2)]
    for key in keys:
        await write(logs, key.text.encode(), key)
    assert [await read(logs, key) for key in keys] == [key.text.encode() for key in keys]
    with pytest.raises(StoreError, match="not a run id"):
        await logs.open(AttemptKey("../etc", "a", 1))


async def test_delete_frees_the_logs_of_one_run(logs: LogStore) -> None:
    """Deleting a run's logs frees at least their bytes, nothing the second time, and leaves other runs alone."""
    other = AttemptKey("run2", "a", 1)
    for key in (KEY, AttemptKey("run1", "b", 1), other):
        await write(logs, b"x" * 5000, key)
    assert await logs.delete("run1") >= 10_000
    assert await logs.delete("run1") == 0
    assert await read(logs) == b""
    assert await read(logs, other) == b"x" * 5000


async def test_killed_writer_leaves_a_whole_beginning(harness: Harness, open_logs) -> None:
    """However often its writer is killed, the log is a beginning of what was written, goes on from there, and ends whole."""
    size, kills, logs = 12 * MIB, 0, await open_logs()
    kind = next(name for name, cls in HARNESSES.items() if isinstance(harness, cls))
    whole, chance, there = child.content(size), random.Random(5), b""
    while True:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.conformance.logs.child", kind, harness.place, str(size),
            stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(30):
            position = int(await process.stdout.readline())
            assert position == len(there)
            if kills == 6:
                assert await process.wait() == 0
                break
            await asyncio.sleep(chance.uniform(0.02, 0.15))
            if process.returncode is None:
                process.kill()
                kills += 1
            await process.wait()
        there = await read(logs, child.KEY)
        assert there == whole[: len(there)]
    assert await read(logs, child.KEY, follow=True) == whole
