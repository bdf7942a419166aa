"""An embedded store moves into PostgreSQL: the same runs, events and rows, and numbers that go on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from stretto.core import events as ev
from stretto.core.errors import InputError, RunBusyError, SchemaError
from stretto.core.ports import NewRequest, NewRun, RunFilter, Wanted
from stretto.store.postgres import PostgresStore, copy, upgrade
from stretto.store.postgres.copy import LEFT, TABLES
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


async def test_copy_takes_what_a_server_has(tmp_path: Path, harness: PostgresHarness) -> None:
    """Runs that wait to be compiled can be taken and defined there; tokens and the audit come along."""
    source = SqliteHarness(tmp_path)
    old = await source.open()
    ((waits, _),) = await old.accept([NewRequest({"repository": "r"}, BEGIN, by="ann", priority=3, retry_of=7)])
    token = (
        "INSERT INTO token (id, digest, name, scope, repositories, created_at, created_by) VALUES (?, ?, ?, ?, ?, ?, ?)"
    )
    audit = "INSERT INTO audit (at, who, action, target, address, outcome) VALUES (?, ?, ?, ?, ?, ?)"
    await old.tables.write(
        (token, ("t1", "d", "ann's", "run", "[]", 1, "root")),
        (audit, (2, "ann", "run.submit", "1", "127.0.0.1", "ok")),
        (audit, (1, "ann", "run.cancel", "1", "127.0.0.1", "ok")),
    )
    new = await harness.open()
    await new.tables.write((audit, (3, "root", "token.create", "t0", "localhost", "ok")))
    counts = await copy(Path(source.place), harness.place)
    assert (counts["submission"], counts["token"], counts["audit"]) == (1, 1, 2)
    assert await new.load(waits.id) == await old.load(waits.id)
    assert await new.unpublished(older_than_s=0, again_after_s=0, limit=9) == [waits.id]
    (claim,) = await new.claim_next("me", Wanted(9))
    assert (await new.define(claim, simple_spec("a"))).priority == 3
    assert await new.tables.read("SELECT name, scope FROM token") == [("ann's", "run")]
    assert await new.tables.read("SELECT at FROM audit ORDER BY id") == [(3,), (2,), (1,)]
    await old.close()
    await new.close()


async def test_copy_knows_every_table(tmp_path: Path, harness: PostgresHarness) -> None:
    """Each table of an embedded store is copied or left out on purpose, and its columns are there in PostgreSQL."""
    source = SqliteHarness(tmp_path)
    store = await source.open()
    listing = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    assert {name for (name,) in await store.tables.read(listing)} == {*TABLES, *LEFT}
    await upgrade(harness.place)
    with harness.connect() as connection:
        for table in TABLES:
            columns = {row[1] for row in await store.tables.read(f"PRAGMA table_info({table})")}
            there = connection.execute(f"SELECT * FROM {table}".encode()).description or ()
            assert columns <= {column.name for column in there}
    await store.close()


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
