"""An embedded store moves into PostgreSQL: the same runs, events and rows, and numbers that go on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from stretto.core import events as ev
from stretto.core.errors import InputError, RunBusyError, SchemaError
from stretto.core.ports import NewRun, RunFilter
from stretto.store.postgres import PostgresStore, copy, upgrade
from stretto.store.sqlite import SqliteStore
from tests.conformance.stores.harness import PostgresHarness, SqliteHarness
from tests.conformance.stores.history import BEGIN, fold, random_history, random_spec, simple_spec

pytestmark = pytest.mark.postgres


async def fill(path: Path) -> list[str]:
    """Make a store with runs of all kinds and return their ids: over, under way, deleted at the end, not begun."""
    store, chance = await SqliteStore.open(path), random.Random(3)
    ids = []
    for i in range(12):
        spec = random_spec(chance)
        row, _ = await store.create_run(NewRun(spec, BEGIN, by="ann", idempotency_key=f"key {i}"))
        claim = await store.claim(row.id, "me")
        run = fold(row.id, spec, (await store.load(row.id)).events)
        for j, event in enumerate(random_history(chance, run)):
            await store.commit(claim, [event], run.take_changes())
            if i == 0 and j == 3:
                break
        await store.ask(row.id, "cancel", {"i": i})
        await store.release(claim)
        ids.append(row.id)
    await store.delete_runs([ids.pop()])
    await store.close()
    return ids


async def test_copy_keeps_all_of_every_run(tmp_path: Path, harness: PostgresHarness) -> None:
    """Rows, specs, events and requests are the same; keys are known; the next run's number was never used."""
    source = SqliteHarness(tmp_path)
    ids = await fill(Path(source.place))
    await upgrade(harness.place)
    counts = await copy(Path(source.place), harness.place)
    old, new = await source.open(), await harness.open()
    assert counts["run"] == len(ids)
    assert await new.list_runs(RunFilter()) == await old.list_runs(RunFilter())
    for id_ in ids:
        assert await new.load(id_) == await old.load(id_)
        assert harness.rows(id_) == source.rows(id_)
        assert await new.read_requests(id_) == await old.read_requests(id_)
    row, created = await new.create_run(NewRun(simple_spec("a"), BEGIN, idempotency_key="key 3"))
    assert (row.id, created) == (ids[3], False)
    assert (await new.create_run(NewRun(simple_spec("a"), BEGIN)))[0].number == 13
    await new.ask(ids[0], "cancel", {})
    assert [request.id for request in await new.read_requests(ids[0])] == [1, 13]
    claim = await new.claim(ids[0], "other")
    run = fold(ids[0], (await new.load(ids[0])).spec, (await new.load(ids[0])).events)
    await new.commit(claim, [ev.RunTimedOut(BEGIN)], run.take_changes())
    await old.close()
    await new.close()


async def test_copy_refuses_a_database_with_runs(tmp_path: Path, harness: PostgresHarness) -> None:
    """What is there is neither mixed with what comes nor lost."""
    await fill(tmp_path / "stretto.db")
    store = await harness.open()
    row, _ = await store.create_run(NewRun(simple_spec("a"), BEGIN))
    with pytest.raises(InputError, match="has runs already"):
        await copy(tmp_path / "stretto.db", harness.place)
    assert await store.list_runs(RunFilter()) == [row]
    await store.close()


async def test_copy_refuses_a_run_under_way(tmp_path: Path, harness: PostgresHarness) -> None:
    """While a live process holds a run nothing is copied; when it let go, all is."""
    await upgrade(harness.place)
    source = await SqliteStore.open(tmp_path / "stretto.db")
    row, _ = await source.create_run(NewRun(simple_spec("a"), BEGIN))
    await source.keep_lease("me", 60)
    claim = await source.claim(row.id, "me")
    with pytest.raises(RunBusyError, match="run 1 is under way"):
        await copy(tmp_path / "stretto.db", harness.place)
    await source.release(claim)
    await source.close()
    assert (await copy(tmp_path / "stretto.db", harness.place))["run"] == 1


async def test_copy_that_fails_leaves_nothing(tmp_path: Path, harness: PostgresHarness) -> None:
    """One row that PostgreSQL does not take, and none is there."""
    await fill(tmp_path / "stretto.db")
    await upgrade(harness.place)
    with harness.connect() as connection:
        connection.execute("ALTER TABLE event ADD CHECK (kind <> 'run_ended' AND kind <> 'RunEnded')")
    with pytest.raises(Exception, match="event"):
        await copy(tmp_path / "stretto.db", harness.place)
    store = await PostgresStore.open(harness.place)
    assert await store.list_runs(RunFilter()) == []
    await store.close()


async def test_copy_needs_a_source_and_tables(tmp_path: Path, harness: PostgresHarness) -> None:
    """A path without a store makes none; a database without tables is refused with the command to run."""
    with pytest.raises(InputError, match="no store at"):
        await copy(tmp_path / "stretto.db", harness.place)
    assert not (tmp_path / "stretto.db").exists()
    await (await SqliteStore.open(tmp_path / "stretto.db")).close()
    with pytest.raises(SchemaError, match="has no tables"):
        await copy(tmp_path / "stretto.db", harness.place)
