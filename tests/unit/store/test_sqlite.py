"""What only the SQLite store has: full disks, read-only places, locks held by others, odd texts."""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stretto.core.errors import DiskFullError, StoreError
from stretto.core.ports import NewRun, RunFilter
from stretto.core.spec import JobSpec, RunSpec
from stretto.store import failure, writer
from stretto.store.sqlite import SqliteStore
from tests.conformance.stores.history import fold, random_history, state

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


def new_run(jobs: int = 1) -> NewRun:
    return NewRun(RunSpec("pipeline", "p", ("s",), tuple(JobSpec(f"job {i}", "s", "fake") for i in range(jobs))), NOW)


async def test_full_disk_is_told_and_survived(tmp_path: Path) -> None:
    """Without room a write is DiskFullError and leaves nothing; with room again the store goes on."""
    store = await SqliteStore.open(tmp_path / "stretto.db")
    connection = store._writer._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    answers = await asyncio.gather(*(store.create_run(new_run(2000)) for _ in range(2)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DiskFullError, DiskFullError]
    assert await store.list_runs(RunFilter()) == []
    connection.execute("PRAGMA max_page_count = 1000000")
    assert (await store.create_run(new_run(2000)))[1]
    await store.close()


async def test_lock_held_by_another_process_is_waited_for(tmp_path: Path) -> None:
    """A write waits for another's transaction and then succeeds."""
    store = await SqliteStore.open(tmp_path / "stretto.db")
    with closing(sqlite3.connect(tmp_path / "stretto.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        pending = asyncio.create_task(store.keep_lease("me", 10))
        done, _ = await asyncio.wait([pending], timeout=0.05)
        assert not done
        other.execute("COMMIT")
    async with asyncio.timeout(5):
        await pending
    await store.close()


async def test_lock_held_for_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another process does not let go of the lock, the write fails clearly, and the next one may succeed."""
    monkeypatch.setattr(writer, "PATIENCE_S", 0.05)
    store = await SqliteStore.open(tmp_path / "stretto.db")
    with closing(sqlite3.connect(tmp_path / "stretto.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another process for too long"):
            await store.keep_lease("me", 10)
        other.execute("COMMIT")
    await store.keep_lease("me", 10)
    await store.close()


async def test_cancelled_write_does_not_disturb_the_others(tmp_path: Path) -> None:
    """A caller that is cancelled while its group is written leaves the rest of the group alone."""
    store = await SqliteStore.open(tmp_path / "stretto.db")
    tasks = [asyncio.create_task(store.keep_lease(f"owner {i}", 10)) for i in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None), asyncio.CancelledError, type(None)]
    await store.close()


@pytest.mark.parametrize("direct_s", [1e9, -1.0])
async def test_commits_are_the_same_in_either_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direct_s: float
) -> None:
    """Whether groups are written in the loop's thread or the writer's, while another holds the lock or not, all are there."""
    monkeypatch.setattr(writer, "_DIRECT_S", direct_s)
    store = await SqliteStore.open(tmp_path / "stretto.db")
    row, _ = await store.create_run(new_run(5))
    claim = await store.claim(row.id, "me")
    run = fold(row.id, new_run(5).spec, (await store.load(row.id)).events)
    with closing(sqlite3.connect(tmp_path / "stretto.db", isolation_level=None)) as other:
        async with asyncio.TaskGroup() as commits:
            for i, event in enumerate(random_history(random.Random(4), run)):
                if i == 5:
                    other.execute("BEGIN IMMEDIATE")
                commits.create_task(store.commit(claim, [event], run.take_changes()))
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            other.execute("COMMIT")
    stored = await store.load(row.id)
    assert state(fold(row.id, stored.spec, stored.events)) == state(run)
    assert run.is_over
    await store.close()


async def test_directory_that_is_a_file_is_told(tmp_path: Path) -> None:
    """A home that can't be a directory is named in a StoreError."""
    (tmp_path / "home").write_text("")
    with pytest.raises(StoreError, match="home"):
        await SqliteStore.open(tmp_path / "home" / "stretto.db")


def test_every_sqlite_result_code_is_mapped() -> None:
    """Each primary result code of sqlite3 either has a meaning for people or is known to be a bug of ours."""
    bugs = {
        "OK",
        "ERROR",
        "INTERNAL",
        "ABORT",
        "INTERRUPT",
        "NOTFOUND",
        "EMPTY",
        "SCHEMA",
        "CONSTRAINT",
        "MISMATCH",
        "MISUSE",
    }
    bugs |= {"FORMAT", "RANGE", "NOTICE", "WARNING", "ROW", "DONE"}
    for name in sorted(set(PRIMARY) - bugs):
        error = sqlite3.OperationalError("x")
        error.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{name}")
        mapped = failure.store_error(Path("/s/stretto.db"), error)
        assert isinstance(mapped, DiskFullError) == (name == "FULL")
        assert "OperationalError" not in mapped.message
    assert bugs <= set(PRIMARY)


PRIMARY = re.findall(
    r"\w+",
    """OK ERROR INTERNAL PERM ABORT BUSY LOCKED NOMEM READONLY INTERRUPT IOERR CORRUPT NOTFOUND FULL CANTOPEN PROTOCOL
    EMPTY SCHEMA TOOBIG CONSTRAINT MISMATCH MISUSE NOLFS AUTH FORMAT RANGE NOTADB NOTICE WARNING ROW DONE""",
)
"""The primary result codes of sqlite.org/rescode.html."""
