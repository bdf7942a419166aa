"""What every store must do, on real files and with real processes."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from stretto.core import events as ev
from stretto.core.errors import FenceLostError, NotFoundError, RunBusyError, StoreError
from stretto.core.ports import Claim, NewRun, RunFilter, RunRow, Store
from stretto.core.run import Run
from stretto.core.spec import RunSpec, SourceSpec
from stretto.core.states import Status

from .stores.harness import HARNESSES, Harness
from .stores.history import BEGIN, expected_rows, fold, random_history, random_spec, simple_spec, state

KILLS = 12


@pytest.fixture(params=[pytest.param("postgres", marks=pytest.mark.postgres), "sqlite"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    harness = HARNESSES[request.param](tmp_path)
    yield harness
    harness.drop()


@pytest.fixture
async def open_store(harness: Harness) -> AsyncIterator[object]:
    """A function that opens one more store; all are closed at the end."""
    async with AsyncExitStack() as stack:

        async def open_one() -> Store:
            store = await harness.open()
            stack.push_async_callback(store.close)
            return store

        yield open_one


@pytest.fixture
async def store(open_store) -> Store:
    return await open_store()


async def submit(store: Store, spec: RunSpec | None = None, **fields) -> tuple[RunRow, Run]:
    row, _ = await store.create_run(NewRun(spec or simple_spec("a", "b"), BEGIN, **fields))
    run = Run(row.id, spec or simple_spec("a", "b"))
    run.apply(ev.RunSubmitted(BEGIN))
    run.take_changes()
    return row, run


async def commit(store: Store, claim: Claim, run: Run, *events: ev.Event, settled=()) -> None:
    for event in events:
        run.apply(event)
    await store.commit(claim, events, run.take_changes(), settled)


async def spawn(harness: Harness, *arguments: str) -> asyncio.subprocess.Process:
    name = next(name for name, cls in HARNESSES.items() if isinstance(harness, cls))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.conformance.stores.child", name, harness.place, *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ submitting


async def test_create_run_stores_run_jobs_and_first_event(store: Store, harness: Harness) -> None:
    """A submitted run is there whole: its row, its spec, its jobs and RunSubmitted."""
    source = SourceSpec("https://example.org/r.git", "c0ffee", "Größe", branch="main")
    spec = simple_spec("a", "b", source=source)
    row, created = await store.create_run(NewRun(spec, BEGIN, by="me"))
    stored = await store.load(row.id)
    assert created
    assert stored.row == row
    assert stored.spec == spec
    assert stored.events == (ev.RunSubmitted(BEGIN, "me"),)
    assert (row.number, row.status, row.created_at, row.ended_at) == (1, Status.PENDING, BEGIN, None)
    assert (row.repository, row.commit, row.commit_message, row.branch) == (
        source.repository,
        "c0ffee",
        "Größe",
        "main",
    )
    assert harness.rows(row.id) == expected_rows(fold(row.id, spec, stored.events))


async def test_create_run_numbers_runs_and_sorts_ids_by_time(store: Store) -> None:
    """Numbers count from 1, also after a deletion, and ids of later runs are greater."""
    rows = [(await store.create_run(NewRun(simple_spec("a"), BEGIN.replace(second=i))))[0] for i in range(5)]
    assert [row.number for row in rows] == [1, 2, 3, 4, 5]
    assert sorted(row.id for row in rows) == [row.id for row in rows]
    assert all(len(row.id) == 26 and row.id == row.id.lower() for row in rows)


async def test_idempotency_key_gives_the_same_run(open_store) -> None:
    """The same key, from several stores at once, makes one run."""
    stores = [await open_store() for _ in range(3)]
    new = NewRun(simple_spec("a"), BEGIN, idempotency_key="once")
    answers = await asyncio.gather(*(store.create_run(new) for store in stores for _ in range(5)))
    assert len({row.id for row, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1


# -------------------------------------------------------------------------------------------------------------- committing


@pytest.mark.parametrize("seed", range(40))
async def test_replay_and_rows_equal_the_run(store: Store, harness: Harness, seed: int) -> None:
    """Whatever happens to a run, the fold of what was stored is the run, and the rows tell the same."""
    chance = random.Random(seed)
    spec = random_spec(chance)
    row, run = await submit(store, spec)
    claim = await store.claim(row.id, "me")
    batch: list[ev.Event] = []
    async with asyncio.TaskGroup() as commits:
        for event in random_history(chance, run):
            batch.append(event)
            if chance.random() < 0.5 or run.is_over:
                commits.create_task(store.commit(claim, batch, run.take_changes()))
                await asyncio.sleep(0)  # `commit` takes what it needs from the run before it first waits
                batch = []
    stored = await store.load(row.id)
    again = fold(row.id, stored.spec, stored.events)
    assert state(again) == state(run)
    assert harness.rows(row.id) == expected_rows(run)
    assert (stored.row.status, stored.row.reason) == (run.status, run.reason)
    assert (stored.row.started_at, stored.row.ended_at) == (run.started_at, run.ended_at)


async def test_commits_of_many_runs_at_once_are_all_written(store: Store) -> None:
    """Hundreds of commits that wait together are each written, in order within a run."""

    async def play(seed: int) -> None:
        chance = random.Random(seed)
        row, run = await submit(store, random_spec(chance))
        claim = await store.claim(row.id, f"owner {seed}")
        for event in random_history(chance, run):
            await store.commit(claim, [event], run.take_changes())
        assert [seq for seq, _ in await store.read_events(row.id, 0)] == list(range(1, run.events_applied + 1))
        assert state(fold(row.id, run.spec, (await store.load(row.id)).events)) == state(run)

    await asyncio.gather(*map(play, range(30)))


async def test_fence_drops_only_what_lost_it(store: Store) -> None:
    """In one group, the commits of a lost claim fail and write nothing; the others are written."""
    lost_row, lost = await submit(store)
    kept_row, kept = await submit(store)
    old = await store.claim(lost_row.id, "one")
    claim = await store.claim(kept_row.id, "one")
    await store.release(old)
    new = await store.claim(lost_row.id, "two")
    results = await asyncio.gather(
        commit(store, claim, kept, ev.RunStarted(BEGIN)),
        commit(store, old, lost, ev.RunStarted(BEGIN)),
        commit(store, claim, kept, ev.JobQueued(BEGIN, "a")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), FenceLostError, type(None)]
    assert len((await store.load(lost_row.id)).events) == 1
    assert (await store.find_run(lost_row.id)).status is Status.PENDING
    assert len((await store.load(kept_row.id)).events) == 3
    assert new.fence > old.fence


async def test_commit_that_fails_harms_no_other(store: Store) -> None:
    """A commit that breaks a constraint fails alone; those of its group are written, and the store goes on."""
    bad_row, bad = await submit(store)
    good_row, good = await submit(store)
    bad_claim, claim = await store.claim(bad_row.id, "me"), await store.claim(good_row.id, "me")
    bad.apply(ev.RunStarted(BEGIN))
    changes = bad.take_changes()
    bad.status = "confused"  # type: ignore[assignment]
    results = await asyncio.gather(
        commit(store, claim, good, ev.RunStarted(BEGIN)),
        store.commit(bad_claim, [ev.RunStarted(BEGIN)], changes),
        commit(store, claim, good, ev.JobQueued(BEGIN, "a")),
        return_exceptions=True,
    )
    assert results[0] is results[2] is None
    assert isinstance(results[1], StoreError)
    assert len((await store.load(bad_row.id)).events) == 1
    assert len((await store.load(good_row.id)).events) == 3


async def test_close_writes_what_was_accepted(harness: Harness) -> None:
    """Commits that wait when the store is closed are written; later calls fail clearly."""
    store = await harness.open()
    row, run = await submit(store)
    claim = await store.claim(row.id, "me")
    pending = asyncio.create_task(commit(store, claim, run, ev.RunStarted(BEGIN)))
    await asyncio.sleep(0)
    await store.close()
    await pending
    with pytest.raises(StoreError, match="closed"):
        await store.load(row.id)
    with pytest.raises(StoreError, match="closed"):
        await store.ask(row.id, "cancel", {})
    again = await harness.open()
    assert len((await again.load(row.id)).events) == 2
    await again.close()


# -------------------------------------------------------------------------------------------------------- claims and leases


async def test_claim_is_refused_while_the_owner_lives(open_store) -> None:
    """A live owner keeps its run, and the error names its host and process; the same owner may claim again."""
    first, second = await open_store(), await open_store()
    row, _ = await submit(first)
    await first.keep_lease("one", 60)
    claim = await first.claim(row.id, "one")
    with pytest.raises(RunBusyError, match=r"host .*, process \d+"):
        await second.claim(row.id, "two")
    assert (await first.claim(row.id, "one")).fence > claim.fence
    assert (await second.find_run(row.id)).owner == "one"


async def test_two_claimers_one_wins(open_store) -> None:
    """Of many who claim at once, exactly one gets the run."""
    stores = [await open_store() for _ in range(4)]
    row, _ = await submit(stores[0])
    for i in range(12):
        await stores[0].keep_lease(f"owner {i}", 60)
    answers = await asyncio.gather(
        *(stores[i % 4].claim(row.id, f"owner {i}") for i in range(12)), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Claim"] + ["RunBusyError"] * 11


async def test_lease_that_ran_out_lets_others_take_over(open_store) -> None:
    """When the lease is over, another owner gets the run, and the old one can neither write nor release."""
    first, second = await open_store(), await open_store()
    row, run = await submit(first)
    await first.keep_lease("one", 0.001)
    old = await first.claim(row.id, "one")
    await first.keep_lease("one", 0.001)
    while True:
        try:
            new = await second.claim(row.id, "two")
            break
        except RunBusyError:
            await asyncio.sleep(0.001)
    with pytest.raises(FenceLostError):
        await commit(first, old, run, ev.RunStarted(BEGIN))
    with pytest.raises(FenceLostError):
        await first.release(old)
    await second.release(new)


async def test_released_run_can_be_claimed_at_once(open_store) -> None:
    """After `release` anybody may claim, and the claim given back is worth nothing."""
    first, second = await open_store(), await open_store()
    row, run = await submit(first)
    old = await first.claim(row.id, "one")
    await first.release(old)
    with pytest.raises(FenceLostError):
        await commit(first, old, run, ev.RunStarted(BEGIN))
    assert (await second.claim(row.id, "two")).fence > old.fence


async def test_killed_owner_on_this_host_is_seen_at_once(store: Store, harness: Harness) -> None:
    """After `kill -9` of the owner its run can be claimed, however long its lease still runs."""
    row, _ = await submit(store)
    child = await spawn(harness, "hold", row.id)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"held\n"
    with pytest.raises(RunBusyError):
        await store.claim(row.id, "two")
    child.kill()
    await child.communicate()
    assert (await store.claim(row.id, "two")).owner == "two"


async def test_killed_owner_on_another_host_keeps_its_lease(store: Store, harness: Harness) -> None:
    """Of a process on another host nothing is known: its run is claimed when its lease has run out, not before."""
    row, _ = await submit(store)
    child = await spawn(harness, "hold", row.id)
    assert child.stdout is not None
    await child.stdout.readline()
    child.kill()
    await child.communicate()
    harness.move_to_another_host("holder")
    with pytest.raises(RunBusyError, match="host far"):
        await store.claim(row.id, "two")


async def test_claim_of_unknown_run_fails(store: Store) -> None:
    """Claiming, asking or loading a run that is not there is NotFoundError."""
    for call in (
        store.claim("nope", "me"),
        store.load("nope"),
        store.ask("nope", "cancel", {}),
        store.find_run("nope"),
    ):
        with pytest.raises(NotFoundError, match="nope"):
            await call
    assert await store.read_events("nope", 0) == []
    assert await store.read_requests("nope") == []


# ----------------------------------------------------------------------------------------------------------------- reading


async def test_find_run_takes_number_id_and_start_of_id(store: Store) -> None:
    """A run is found by number, id, and by the start of its id where that is unambiguous."""
    early, _ = await store.create_run(NewRun(simple_spec("a"), BEGIN.replace(year=1990)))
    late, _ = await store.create_run(NewRun(simple_spec("a"), BEGIN))
    assert await store.find_run("1") == early
    assert await store.find_run(late.id) == late
    assert await store.find_run(late.id[:8].upper()) == late
    for reference in ("0", "3", "", "zz", "%", "9" * 30, "'; DROP TABLE run"):
        with pytest.raises(NotFoundError):
            await store.find_run(reference)


async def test_list_runs_filters_and_pages(store: Store) -> None:
    """The filters combine; the newest come first; `before` and `limit` page through all."""
    for i in range(6):
        source = SourceSpec(f"repo{i % 2}", "c", branch=f"branch{i % 3}")
        await store.create_run(NewRun(simple_spec("a", source=source, name=f"name{i % 2}"), BEGIN))
    row = await store.find_run("6")
    claim = await store.claim(row.id, "me")
    run = fold(row.id, (await store.load(row.id)).spec, (await store.load(row.id)).events)
    await commit(store, claim, run, ev.RunStarted(BEGIN))

    async def numbers(**fields) -> list[int]:
        return [row.number for row in await store.list_runs(RunFilter(**fields))]

    assert await numbers() == [6, 5, 4, 3, 2, 1]
    assert await numbers(limit=2, before=5) == [4, 3]
    assert await numbers(name="name0") == [5, 3, 1]
    assert await numbers(repository="repo1", branch="branch0") == [4]
    assert await numbers(statuses=frozenset({Status.RUNNING})) == [6]
    assert await numbers(statuses=frozenset({Status.PENDING, Status.RUNNING}), limit=3) == [6, 5, 4]
    assert await numbers(statuses=frozenset()) == []


async def test_read_events_goes_on_where_it_stopped(store: Store) -> None:
    """Events have sequence numbers from 1, and only those above `after` are returned."""
    row, run = await submit(store)
    claim = await store.claim(row.id, "me")
    await commit(store, claim, run, ev.RunStarted(BEGIN), ev.JobQueued(BEGIN, "a"))
    assert await store.read_events(row.id, 1) == [(2, ev.RunStarted(BEGIN)), (3, ev.JobQueued(BEGIN, "a"))]
    assert await store.read_events(row.id, 3) == []


async def test_requests_are_ordered_and_settled_with_a_commit(open_store) -> None:
    """Requests come in order, stay until a commit settles them, and a commit that fails settles nothing."""
    first, second = await open_store(), await open_store()
    row, run = await submit(first)
    claim = await first.claim(row.id, "me")
    for i in range(3):
        await second.ask(row.id, "cancel", {"job": f"j{i}"})
    asked = await first.read_requests(row.id)
    assert [request.body for request in asked] == [{"job": "j0"}, {"job": "j1"}, {"job": "j2"}]
    assert [request.id for request in asked] == sorted(request.id for request in asked)
    with pytest.raises(FenceLostError):
        await first.commit(Claim(row.id, "me", claim.fence - 1), [], run.take_changes(), [asked[0].id])
    await commit(first, claim, run, ev.RunStarted(BEGIN), settled=[asked[0].id, asked[2].id])
    assert await second.read_requests(row.id) == [asked[1]]


async def test_wait_for_change_sees_other_stores(open_store) -> None:
    """A waiter wakes when another store writes, and otherwise only after its time-out."""
    first, second = await open_store(), await open_store()
    row, _ = await submit(first)
    while await first.wait_for_change(0.15):
        pass  # what was written until now
    assert not await first.wait_for_change(0.15)
    waiting = asyncio.create_task(first.wait_for_change(20.0))
    await asyncio.sleep(0)
    await second.ask(row.id, "cancel", {})
    async with asyncio.timeout(5):
        assert await waiting


async def test_delete_runs_leaves_those_under_way(store: Store) -> None:
    """A run that is over goes with all its rows; one under way stays; numbers are not used again."""
    row, run = await submit(store)
    other, _ = await submit(store)
    claim = await store.claim(row.id, "me")
    for event in random_history(random.Random(1), run):
        await store.commit(claim, [event], run.take_changes())
    await store.delete_runs([row.id, other.id, "nope"])
    with pytest.raises(NotFoundError):
        await store.load(row.id)
    assert await store.read_events(row.id, 0) == []
    assert (await store.load(other.id)).row == other
    assert (await submit(store))[0].number == 3


# ------------------------------------------------------------------------------------------------------------ many processes


@pytest.mark.slow
async def test_eight_processes_write_at_once(store: Store, harness: Harness) -> None:
    """Eight processes write to the same place; none is refused, and all they wrote is there."""
    row, _ = await submit(store)
    children = [await spawn(harness, "play", str(i), "5") for i in range(4)]
    children += [await spawn(harness, "ask", row.id, "25") for _ in range(4)]
    for child in children:
        _, errors = await child.communicate()
        assert (child.returncode, errors.decode()) == (0, "")
    assert len(await store.read_requests(row.id)) == 100
    ended = await store.list_runs(RunFilter(limit=100, statuses=frozenset({Status.SUCCESS, Status.FAILED})))
    assert len(ended) == 20


@pytest.mark.slow
async def test_kill_loses_nothing_that_was_acknowledged(harness: Harness) -> None:
    """A writing process is killed at random moments: what it acknowledged is there, nothing is torn, rows tell what events do."""
    chance = random.Random(7)
    acknowledged: dict[str, int] = {}
    for turn in range(KILLS):
        child = await spawn(harness, "write", str(turn))
        assert child.stdout is not None
        lines = [await child.stdout.readline()]
        assert lines[0], (await child.communicate())[1].decode()
        await asyncio.sleep(chance.uniform(0.0, 0.4))
        child.kill()
        rest, _ = await child.communicate()
        for line in [*lines, *rest.splitlines(keepends=True)]:
            if line.endswith(b"\n"):
                run_id, count = line.split()
                acknowledged[run_id.decode()] = int(count)
    harness.check()
    store = await harness.open()
    for run_id, count in acknowledged.items():
        stored = await store.load(run_id)
        assert len(stored.events) >= count
        run = fold(run_id, stored.spec, stored.events)
        assert harness.rows(run_id) == expected_rows(run)
        assert stored.row.status is run.status
        if not run.is_over:
            await store.claim(run_id, "next")
    await store.close()
    assert len(acknowledged) > KILLS
