"""Logs and blobs in PostgreSQL: a writer that was replaced, and a server that goes away in the middle."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stretto.core.errors import FenceLostError, StoreError
from stretto.core.ports import LogChunk
from stretto.core.spec import AttemptKey
from stretto.store.postgres.blobs import PostgresBlobs
from stretto.store.postgres.database import Database, Patience
from stretto.store.postgres.logs import PostgresLogs
from tests.conformance.logs.harness import PostgresHarness

from .proxy import Proxy

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


async def test_replaced_writer_of_the_same_process_writes_nothing(open_logs) -> None:
    """Of two writers of a log in one statement only the newest has written."""
    logs = await open_logs()
    old, new = await logs.open(KEY), await logs.open(KEY)
    await old.append(LogChunk(NOW, b"lost", 4))
    await new.append(LogChunk(NOW, b"kept", 4))
    await new.close()
    with pytest.raises(FenceLostError):
        await old.close()
    assert await read(logs, follow=True) == b"kept"


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


async def test_batch_whose_answer_was_lost_is_written_once(harness: PostgresHarness, open_logs) -> None:
    """A commit that the server did and could not tell of is found and not repeated."""
    await open_logs()
    async with Proxy(harness.place) as proxy, PostgresHarness.at(proxy.url).open() as logs:
        writer = await logs.open(KEY)
        proxy.cut_answer_to = b"WITH batch AS"
        async with asyncio.timeout(20):
            await writer.append(LogChunk(NOW, b"once", 4))
            await writer.close()
        assert proxy.cuts == 1
        assert await read(logs, follow=True) == b"once"


async def test_server_that_is_away_is_waited_for(harness: PostgresHarness, open_logs) -> None:
    """Output that comes while the server can't be reached is there when it can be again, and a follower stays."""
    await open_logs()
    async with Proxy(harness.place) as proxy, PostgresHarness.at(proxy.url).open() as logs:
        writer = await logs.open(KEY)
        await writer.append(LogChunk(NOW, b"before ", 7))
        parts = logs.read(KEY, follow=True)
        async with asyncio.timeout(20):
            assert await anext(parts) == b"before "
            proxy.refuses = True
            proxy.cut()
            await writer.append(LogChunk(NOW, b"meanwhile", 16))
            closing = asyncio.create_task(writer.close())
            await asyncio.wait([closing], timeout=1.0)
            assert not closing.done()
            proxy.refuses = False
            await closing
            assert b"".join([part async for part in parts]) == b"meanwhile"


async def test_server_that_stays_away_is_told(harness: PostgresHarness, open_logs) -> None:
    """When patience ends the writer has the error, and its position is where the log stands."""
    await open_logs()
    async with Proxy(harness.place) as proxy:
        database = Database(proxy.url, patience=Patience(call_s=0.2, commit_s=0.5))
        await database.open()
        logs = PostgresLogs(database)
        writer = await logs.open(KEY)
        await writer.append(LogChunk(NOW, b"kept", 4))
        await writer.close(complete=False)
        writer = await logs.open(KEY)
        proxy.refuses = True
        proxy.cut()
        async with asyncio.timeout(20):
            await writer.append(LogChunk(NOW, b"lost", 8))
            with pytest.raises(StoreError, match="does not answer"):
                await writer.close()
            assert writer.position == 4
            await logs.close()
            await database.close()


async def test_blobs_survive_cut_connections(harness: PostgresHarness, open_logs, tmp_path: Path) -> None:
    """A file is whole in the database and back on disk although the way there was cut in the middle of both."""
    await open_logs()
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(random.Random(4).randbytes(24_000_000))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    async with Proxy(harness.place) as proxy:
        database = Database(proxy.url)
        await database.open()
        blobs = PostgresBlobs(database)

        async def cut() -> None:
            for _ in range(4):
                await asyncio.sleep(0.1)
                proxy.cut()

        async with asyncio.timeout(60):
            await asyncio.gather(blobs.put({digest: source}), cut())
            await asyncio.gather(blobs.get({digest: target}), cut())
        await database.close()
    assert target.read_bytes() == source.read_bytes()
    assert harness.execute("SELECT count(*), sum(octet_length(data)) FROM blob_chunk") == [(23, 24_000_000)]
