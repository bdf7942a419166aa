"""A server that goes away: what was acknowledged is there, nothing is there twice, and calls wait or fail clearly."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.service.postgres import Postgres
from stretto.core import events as ev
from stretto.core.errors import FenceLostError, StoreError
from stretto.core.ports import NewRequest, NewRun, RunFilter, Wanted
from stretto.core.run import Run
from stretto.store.postgres import PostgresStore
from stretto.store.postgres.database import Patience
from tests.conformance.stores.harness import PostgresHarness
from tests.conformance.stores.history import BEGIN, expected_rows, fold, random_history, random_spec, simple_spec, state
from tests.unit.store.postgres.proxy import Proxy

pytestmark = pytest.mark.postgres

HASTY = Patience(call_s=1.5, commit_s=0.3)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    """A server of the test's own, to be killed at will; harnesses made from now on use it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)  # the server's user must get through; pytest closes its own folders again and again
        server = Postgres(Path(folder, "services"))
        try:
            for name, value in server.start().items():
                monkeypatch.setenv(name, value)
            yield server
        finally:
            server.stop()


async def begin(store: PostgresStore) -> tuple[str, Run, object]:
    """Return a claimed run of one job, as it stands."""
    row, _ = await store.create_run(NewRun(simple_spec("a"), BEGIN))
    claim = await store.claim(row.id, "me")
    return row.id, fold(row.id, simple_spec("a"), (await store.load(row.id)).events), claim


@pytest.mark.slow
async def test_killed_server_loses_nothing_and_doubles_nothing(server: Postgres, tmp_path: Path) -> None:
    """Under load the server is killed and comes back, again and again: every run ends, with each of its events once."""
    harness = PostgresHarness(tmp_path)
    store = await harness.open()
    runs: dict[str, Run] = {}
    over = asyncio.Event()

    async def lane(chance: random.Random) -> None:
        while not over.is_set():
            spec = random_spec(chance)
            row, created = await store.create_run(NewRun(spec, BEGIN))
            assert created
            claim = await store.claim(row.id, "me")
            run = runs[row.id] = fold(row.id, spec, (await store.load(row.id)).events)
            for event in random_history(chance, run):
                await store.commit(claim, [event], run.take_changes())
            await store.release(claim)

    async def murder() -> None:
        for i in range(4):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(server.halt, kill=i % 2 == 0)
            await asyncio.to_thread(server.run)
        await asyncio.sleep(0.5)
        over.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(murder())
        for i in range(20):
            tasks.create_task(lane(random.Random(i)))
    assert len(runs) > 40
    harness.check()
    assert len(await store.list_runs(RunFilter(limit=100_000))) == len(runs)  # none was stored twice
    for run_id, run in runs.items():
        stored = await store.load(run_id)
        assert state(fold(run_id, stored.spec, stored.events)) == state(run)
        assert harness.rows(run_id) == expected_rows(run)
    await store.close()


async def test_commit_whose_answer_was_lost_is_found(harness: PostgresHarness) -> None:
    """The connection is cut after the server got the values: the commit succeeds, and its events are there once."""
    await (await harness.open()).close()
    async with Proxy(harness.place) as proxy:
        store = await PostgresStore.open(proxy.url)
        run_id, run, claim = await begin(store)
        for cuts, event in enumerate((ev.RunStarted(BEGIN), ev.JobQueued(BEGIN, "a")), start=1):
            run.apply(event)
            proxy.cut_answer_to = b'"seq":'  # in the values, not in the statement, which is prepared first
            await store.commit(claim, [event], run.take_changes())
            assert proxy.cuts == cuts
        assert (await store.load(run_id)).events[1:] == (ev.RunStarted(BEGIN), ev.JobQueued(BEGIN, "a"))
        assert harness.rows(run_id) == expected_rows(run)
        await store.close()


async def test_commit_whose_answer_was_lost_outlives_a_takeover(harness: PostgresHarness) -> None:
    """A commit that was done is acknowledged even if another owner took the run over before we could look."""
    other = await harness.open()
    async with Proxy(harness.place) as proxy:
        store = await PostgresStore.open(proxy.url)
        run_id, run, claim = await begin(store)
        run.apply(ev.RunStarted(BEGIN))
        proxy.cut_answer_to, proxy.refuses_after_cut = b'"seq":', True
        commit = asyncio.create_task(store.commit(claim, [ev.RunStarted(BEGIN)], run.take_changes()))
        while len((await other.load(run_id)).events) < 2:
            await other.wait_for_change(0.1)
        await other.release(claim)
        taken = await other.claim(run_id, "you")
        stored = await other.load(run_id)
        theirs = fold(run_id, stored.spec, stored.events)
        theirs.apply(ev.JobQueued(BEGIN, "a"))
        await other.commit(taken, [ev.JobQueued(BEGIN, "a")], theirs.take_changes())
        proxy.refuses = proxy.refuses_after_cut = False
        await commit
        with pytest.raises(FenceLostError):
            await store.commit(claim, [ev.JobQueued(BEGIN, "a")], run.take_changes())
        assert (await other.load(run_id)).events[1:] == (ev.RunStarted(BEGIN), ev.JobQueued(BEGIN, "a"))
        await store.close()
    await other.close()


async def test_submission_whose_answer_was_lost_is_done_once(harness: PostgresHarness) -> None:
    """A run is created or accepted once, with a key or without, and told to be new."""
    await (await harness.open()).close()
    async with Proxy(harness.place) as proxy:
        store = await PostgresStore.open(proxy.url)
        request = NewRequest({"repository": "r"}, BEGIN)
        for cuts, key in enumerate((None, "k"), start=1):
            proxy.cut_answer_to = b'"created_at":'  # in the values, not in the statement, which is prepared first
            row, created = await store.create_run(NewRun(simple_spec("a"), BEGIN, idempotency_key=key))
            proxy.cut_answer_to = b'"created_at":'
            accepted = await store.accept([request, replace(request, idempotency_key=key and f"{key}/2")])
            assert (created, [new for _, new in accepted], proxy.cuts) == (True, [True, True], 2 * cuts)
            rows = [accepted[1][0], accepted[0][0], row]
            assert (await store.list_runs(RunFilter()))[:3] == rows
        assert len(await store.list_runs(RunFilter())) == 6
        await store.close()


async def test_claims_whose_answer_was_lost_are_found(harness: PostgresHarness) -> None:
    """Runs that were taken, defined or given back by a call whose answer was lost: it says so, and does it once."""
    await (await harness.open()).close()
    async with Proxy(harness.place) as proxy:
        store = await PostgresStore.open(proxy.url)
        await store.accept([NewRequest({}, BEGIN)] * 3)
        proxy.cut_answer_to = b"UPDATE run SET owner"
        claims = await store.claim_next("me", Wanted(2))
        assert ([claim.fence for claim in claims], proxy.cuts) == ([1, 1], 1)
        assert len(await store.claim_next("me", Wanted(9))) == 1  # nothing more was taken, and nothing forgotten
        proxy.cut_answer_to = b"undefined = false"
        assert (await store.define(claims[0], simple_spec("a"))).name == simple_spec("a").name
        proxy.cut_answer_to = b'"fence":'
        await store.release(claims[0])
        assert proxy.cuts == 3
        with pytest.raises(FenceLostError):
            await store.release(claims[0])
        assert (await store.claim(claims[0].run_id, "you")).fence == claims[0].fence + 2
        await store.close()


async def test_open_waits_for_a_server_that_starts(harness: PostgresHarness, caplog: pytest.LogCaptureFixture) -> None:
    """A server that begins to answer while we wait is used, and the log says that we waited; without time it fails at once."""
    await (await harness.open()).close()
    async with Proxy(harness.place) as proxy:
        proxy.refuses = True
        with pytest.raises(StoreError, match="does not answer"):
            await PostgresStore.open(proxy.url)
        assert not caplog.messages
        opening = asyncio.create_task(PostgresStore.open(proxy.url, wait_s=20.0))
        proxy.refused.clear()
        await proxy.refused.wait()
        proxy.refuses = False
        await (await opening).close()
    assert caplog.messages == ["the database does not answer; waiting for it"]


async def test_server_that_stays_away_is_told(harness: PostgresHarness) -> None:
    """When patience is over, reads and commits fail with host and database and no password; later they succeed."""
    await (await harness.open()).close()
    async with Proxy(harness.place) as proxy:
        store = await PostgresStore.open(proxy.url, patience=HASTY)
        run_id, run, claim = await begin(store)
        proxy.refuses = True
        proxy.cut()
        run.apply(ev.RunStarted(BEGIN))
        changes = run.take_changes()
        errors = await asyncio.gather(
            store.load(run_id), store.commit(claim, [ev.RunStarted(BEGIN)], changes), return_exceptions=True
        )
        for error in errors:
            assert isinstance(error, StoreError)
            assert "stretto@127.0.0.1" in error.message
            assert harness.place.split(":")[2].split("@")[0] not in error.message
        proxy.refuses = False
        await store.commit(claim, [ev.RunStarted(BEGIN)], changes)  # it had never been sent
        assert len((await store.load(run_id)).events) == 2
        await store.close()


async def test_claim_is_void_when_it_stays_unknown_what_was_written(harness: PostgresHarness) -> None:
    """A commit given up without an answer may have been written: no other follows until the run is claimed again."""
    await (await harness.open()).close()
    async with Proxy(harness.place) as proxy:
        store = await PostgresStore.open(proxy.url, patience=HASTY)
        run_id, run, claim = await begin(store)
        run.apply(ev.RunStarted(BEGIN))
        changes = run.take_changes()
        proxy.cut_answer_to, proxy.refuses_after_cut = b'"seq":', True
        with pytest.raises(StoreError, match="does not answer"):
            await store.commit(claim, [ev.RunStarted(BEGIN)], changes)
        proxy.refuses = False
        with pytest.raises(StoreError, match="must be claimed and loaded again"):
            await store.commit(claim, [ev.RunTimedOut(BEGIN)], changes)
        claim = await store.claim(run_id, "me")
        assert (await store.load(run_id)).events[1:] == (ev.RunStarted(BEGIN),)
        run.apply(ev.JobQueued(BEGIN, "a"))
        await store.commit(claim, [ev.JobQueued(BEGIN, "a")], run.take_changes())
        assert (await store.load(run_id)).events[1:] == (ev.RunStarted(BEGIN), ev.JobQueued(BEGIN, "a"))
        await store.close()


async def test_waiters_hear_again_after_the_connection_was_cut(harness: PostgresHarness) -> None:
    """A listener that lost its connection finds a new one, and what was written meanwhile wakes its waiters."""
    other = await harness.open()
    async with Proxy(harness.place) as proxy:
        store = await PostgresStore.open(proxy.url)
        row, _ = await other.create_run(NewRun(simple_spec("a"), BEGIN))
        while await store.wait_for_change(0.3):
            pass
        proxy.cut()
        assert await store.wait_for_change(10)  # connected again: anything may have been written
        while await store.wait_for_change(0.3):
            pass
        waiting = asyncio.create_task(store.wait_for_change(10))
        await asyncio.sleep(0)
        await other.ask(row.id, "cancel", {})
        async with asyncio.timeout(1):
            assert await waiting
        await store.close()
    await other.close()


async def test_change_between_reading_and_waiting_is_not_missed(harness: PostgresHarness) -> None:
    """What is written after a task came back from waiting wakes its next wait, however late that is."""
    store = await harness.open()
    row, _ = await store.create_run(NewRun(simple_spec("a"), BEGIN))
    while await store.wait_for_change(0.3):
        pass
    await store.ask(row.id, "cancel", {})
    await asyncio.sleep(0.3)  # longer than the look-back
    assert await store.wait_for_change(0.0)
    await store.close()


async def test_commit_that_meets_a_lock_is_tried_again(harness: PostgresHarness) -> None:
    """Another transaction that holds the run's row for longer than we wait for locks delays the commit, and no more."""
    await (await harness.open()).close()
    store = await PostgresStore.open(harness.place.replace("-csearch_path", "-clock_timeout%3D50%20-csearch_path"))
    run_id, run, claim = await begin(store)
    with harness.connect() as other:
        with other.transaction():
            other.execute("SELECT FROM run WHERE id = %s FOR UPDATE", (run_id,))
            run.apply(ev.RunStarted(BEGIN))
            commit = asyncio.create_task(store.commit(claim, [ev.RunStarted(BEGIN)], run.take_changes()))
            done, _ = await asyncio.wait([commit], timeout=0.3)
            assert not done
        await commit
    assert len((await store.load(run_id)).events) == 2
    await store.close()
