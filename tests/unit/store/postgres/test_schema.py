"""The tables of a PostgreSQL database: made when somebody says so, once, and refused when they are another version's."""

from __future__ import annotations

import asyncio

import pytest

from stretto.core.errors import SchemaError
from stretto.core.states import FINAL, Status
from stretto.store.migration import Migration, read_migrations
from stretto.store.postgres import PostgresStore, SchemaState, schema, status, upgrade
from tests.conformance.stores.harness import PostgresHarness

NEWEST = len(read_migrations("postgres"))


def test_migrations_are_numbered_from_one_without_gaps() -> None:
    """The files' numbers are 1, 2, 3 and so on."""
    assert [step.number for step in read_migrations("postgres")] == list(range(1, NEWEST + 1))


def test_tables_repeat_the_statuses() -> None:
    """The CHECK constraints name exactly the statuses that the core knows."""
    sql = read_migrations("postgres")[0].sql
    everything = ", ".join(f"'{status.value}'" for status in Status)
    assert sql.count(f"CHECK (status IN ({everything}))") == 2
    of_attempts = [Status.RUNNING, *(status for status in Status if status in FINAL - {Status.SKIPPED})]
    assert "CHECK (status IN ({}))".format(", ".join(f"'{status.value}'" for status in of_attempts)) in sql


@pytest.mark.postgres
async def test_open_refuses_a_database_without_tables(harness: PostgresHarness) -> None:
    """Nothing is made by opening: the error names the command to run."""
    with pytest.raises(SchemaError, match="has no tables") as caught:
        await PostgresStore.open(harness.place)
    assert caught.value.hint == "run: stretto db upgrade"
    assert await status(harness.place) == SchemaState(0, NEWEST)


@pytest.mark.postgres
async def test_upgrade_applies_each_step_once(harness: PostgresHarness) -> None:
    """Of several at once one makes the tables, and the others find nothing left to do."""
    done = await asyncio.gather(*(upgrade(harness.place) for _ in range(4)))
    assert sorted(map(len, done)) == [0, 0, 0, NEWEST]
    assert await status(harness.place) == SchemaState(NEWEST, NEWEST)
    await (await PostgresStore.open(harness.place)).close()


@pytest.mark.postgres
async def test_open_refuses_older_tables(harness: PostgresHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that needs a step more than was applied does not work on what there is."""
    await upgrade(harness.place)
    steps = [*read_migrations("postgres"), Migration(NEWEST + 1, "later", "CREATE TABLE later ();")]
    monkeypatch.setattr(schema, "read_migrations", lambda dialect: steps)
    with pytest.raises(SchemaError, match=f"tables of version {NEWEST}, this Stretto needs version {NEWEST + 1}"):
        await PostgresStore.open(harness.place)
    assert await upgrade(harness.place) == ["later"]
    await (await PostgresStore.open(harness.place)).close()


@pytest.mark.postgres
async def test_step_that_was_left_out_is_applied_later(harness: PostgresHarness) -> None:
    """Tables that lack a step in the middle have the version before it, are refused, and get just that step."""
    await upgrade(harness.place)
    with harness.connect() as connection:
        connection.execute("DROP TABLE token, audit")
        connection.execute("DELETE FROM migration WHERE number = 3")
    assert await status(harness.place) == SchemaState(2, NEWEST)
    with pytest.raises(SchemaError, match=f"tables of version 2, this Stretto needs version {NEWEST}"):
        await PostgresStore.open(harness.place)
    assert await upgrade(harness.place) == ["0003_access"]


@pytest.mark.postgres
async def test_step_that_fails_leaves_nothing(harness: PostgresHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps are applied or none, and the ledger says so."""
    bad = Migration(NEWEST + 1, "bad", "CREATE TABLE later (); CREATE TABLE later ();")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "read_migrations", lambda dialect: [*read_migrations("postgres"), bad])
        with pytest.raises(Exception, match="already exists"):
            await upgrade(harness.place)
    assert await status(harness.place) == SchemaState(0, NEWEST)


@pytest.mark.postgres
async def test_tables_of_a_newer_version_are_refused(harness: PostgresHarness) -> None:
    """A step that this version does not know, or knows with another text, is left alone by all commands."""
    await upgrade(harness.place)
    with harness.connect() as connection:
        connection.execute("INSERT INTO migration (number, name, checksum) VALUES (99, '0099_later', 'x')")
    for call in (upgrade, status, PostgresStore.open):
        with pytest.raises(SchemaError, match="newer Stretto"):
            await call(harness.place)
    with harness.connect() as connection:
        connection.execute("DELETE FROM migration WHERE number = 99")
        connection.execute("UPDATE migration SET checksum = 'other'")
    with pytest.raises(SchemaError, match="differs"):
        await PostgresStore.open(harness.place)
