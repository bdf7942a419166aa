"""Logs in PostgreSQL: a writer that was replaced, and a server that goes away in the middle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stretto.core.errors import FenceLostError, StoreError
from stretto.core.ports import LogChunk
from stretto.core.spec import AttemptKey
from tests.conformance.logs.harness import PostgresHarness

pytestmark = pytest.mark.postgres

KEY = AttemptKey("run1", "job", 1)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
END_SESSIONS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%{}%' AND pid <> pg_backend_pid()"
)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[PostgresHarness]:
    harness = PostgresHarness(tmp_path)
    yield harness
    harness.drop()


@pytest.fixture
async def open_logs(harness: PostgresHarness):
    """A function that opens the logs once more; all are closed at the end."""
    async with AsyncExitStack() as stack:
        yield lambda: stack.enter_async_context(harness.open())


async def read(logs, key: AttemptKey = KEY, **options) -> bytes:
    return b"".join([part async for part in logs.read(key, **options)])


async def test_replaced_writer_writes_nothing(open_logs) -> None:
    """A conductor that was taken for dead and writes on is refused; what its successor wrote is untouched."""
    old = await (await open_logs()).open(KEY)
    await old.append(LogChunk(NOW, b"one", 3))
    await old.close(complete=False)
    old = await (await open_logs()).open(KEY)
    await old.append(LogChunk(NOW, b"lost", 7))
    new = await (await open_logs()).open(KEY)
    await new.append(LogChunk(NOW, b"two", 6))
    with pytest.raises(FenceLostError):
        await old.close()
    await new.close()
    assert await read(await open_logs(), follow=True) == b"onetwo"


async def test_writer_of_a_deleted_log_is_told(open_logs) -> None:
    """Nothing is written to a log that is gone."""
    logs = await open_logs()
    writer = await logs.open(KEY)
    assert await logs.delete("run1") == 0
    await writer.append(LogChunk(NOW, b"x", 1))
    with pytest.raises(StoreError, match="deleted"):
        await writer.close()
    assert await read(logs) == b""


async def test_connections_that_are_cut_cost_nothing(harness: PostgresHarness, open_logs) -> None:
    """Sessions that end in the middle of appends and follows are replaced: every byte is there once, for the follower too."""
    whole = random.Random(2).randbytes(6_000_000)
    logs = await open_logs()
    writer = await logs.open(KEY)
    await writer.append(LogChunk(NOW, whole[:1], 1))
    following = asyncio.create_task(read(await open_logs(), follow=True))

    async def cut() -> None:
        for _ in range(12):
            await asyncio.to_thread(harness.execute, END_SESSIONS.format("log"))
            await asyncio.sleep(0.03)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        cutting = group.create_task(cut())
        while writer.position < len(whole) or not cutting.done():
            data = whole[writer.position :][:20_000]
            if data:
                await writer.append(LogChunk(NOW, data, writer.position + len(data)))
            await asyncio.sleep(0.002)
        await writer.close()
        assert await following == whole
    assert await read(logs) == whole


async def test_logs_of_many_jobs_are_written_together(harness: PostgresHarness, open_logs) -> None:
    """A hundred jobs that write a little cost as many commits as one."""
    logs = await open_logs()
    writers = [await logs.open(AttemptKey("run1", f"job{i}", 1)) for i in range(100)]
    transactions = "SELECT count(DISTINCT xmin::text) FROM log"
    assert harness.execute(transactions) == [(100,)]
    for i, writer in enumerate(writers):
        await writer.append(LogChunk(NOW, b"%d\n" % i, 1))
    await asyncio.gather(*(writer.close() for writer in writers))
    assert harness.execute(transactions) <= [(2,)]
    for i in range(100):
        assert await read(logs, AttemptKey("run1", f"job{i}", 1)) == b"%d\n" % i
