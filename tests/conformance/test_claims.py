"""What every store must do for a server: runs accepted before they are compiled, and taken by whoever is free."""
# ruff: noqa: F811  (fixtures are imported by the names that tests take them by)

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from stretto.core import events as ev
from stretto.core.errors import FenceLostError, RunBusyError, StoreError
from stretto.core.ports import Claim, NewRequest, NewRun, RunFilter, RunRow, Store, Wanted
from stretto.core.run import Run
from stretto.core.spec import SourceSpec
from stretto.core.states import Reason, Status

from .stores.harness import Harness
from .stores.history import BEGIN, expected_rows, fold, simple_spec, state
from .test_stores import commit, harness, open_store, spawn, store, submit  # noqa: F401

LONG_S = 600.0


def asked(name: str = "ci", **fields) -> NewRequest:
    return NewRequest({"repository": "https://example.org/r.git", "pipelines": [name]}, BEGIN, name=name, **fields)


async def accept(store: Store, *new: NewRequest) -> list[RunRow]:
    return [row for row, _ in await store.accept(new)]


async def take(store: Store, owner: str = "me", limit: int = 100, **wanted) -> list[Claim]:
    return await store.claim_next(owner, Wanted(limit, **wanted))


async def start_attempt(store: Store, claim: Claim, run: Run) -> None:
    await commit(store, claim, run, ev.RunStarted(BEGIN), ev.AttemptStarting(BEGIN, "a", 1))


def numbers(claims: list[Claim], rows: list[RunRow]) -> list[int]:
    number = {row.id: row.number for row in rows}
    return [number[claim.run_id] for claim in claims]


# --------------------------------------------------------------------------------------------------- accepting, defining


async def test_accept_stores_what_was_asked(store: Store, harness: Harness) -> None:
    """An accepted run has a number and what names it, its request, and no jobs yet."""
    ((row, created),) = await store.accept([asked("nightly", branch="main", by="ada", priority=3, retry_of=7)])
    stored = await store.load(row.id)
    assert created
    assert (row.number, row.status, row.name, row.branch, row.by) == (1, Status.PENDING, "nightly", "main", "ada")
    assert (row.priority, row.retry_of) == (3, 7)
    assert stored.row == row
    assert stored.request == {"repository": "https://example.org/r.git", "pipelines": ["nightly"]}
    assert stored.spec.jobs == ()
    assert stored.events == (ev.RunSubmitted(BEGIN, "ada"),)
    assert harness.rows(row.id).jobs == []
    assert await store.list_runs(RunFilter(by="ada")) == [row]
    assert await store.list_runs(RunFilter(by="bob")) == []


async def test_accept_knows_idempotency_keys(open_store) -> None:
    """The same key gives the same run, also among those accepted together and from several stores at once."""
    stores = [await open_store() for _ in range(3)]
    new = [asked("a", idempotency_key="k/a"), asked("b", idempotency_key="k/b"), asked("a", idempotency_key="k/a")]
    answers = await asyncio.gather(*(store.accept(new) for store in stores for _ in range(3)))
    assert {tuple(row.number for row, _ in answer) for answer in answers} == {(1, 2, 1)}
    assert sum(created for answer in answers for _, created in answer) == 2


async def test_define_makes_a_run_of_a_request(store: Store, harness: Harness) -> None:
    """A defined run is as if it had been created so: spec, jobs, name and source; and it has no request any more."""
    (row,) = await accept(store, asked())
    (claim,) = await take(store)
    source = SourceSpec("https://example.org/r.git", "c0ffee", "Größe", branch="main")
    spec = simple_spec("a", "b", source=source, name="named")
    defined = await store.define(claim, spec)
    stored = await store.load(row.id)
    assert stored.request is None
    assert (stored.row, stored.spec, stored.events) == (defined, spec, (ev.RunSubmitted(BEGIN),))
    assert (defined.name, defined.commit, defined.branch) == ("named", "c0ffee", "main")
    assert harness.rows(row.id) == expected_rows(fold(row.id, spec, stored.events))
    run = fold(row.id, spec, stored.events)
    run.take_changes()
    await commit(store, claim, run, ev.RunStarted(BEGIN), ev.JobQueued(BEGIN, "b"))
    assert harness.rows(row.id) == expected_rows(run)


async def test_define_is_for_the_newest_claim_and_once(store: Store) -> None:
    """An old claim defines nothing, and a run is defined once."""
    (row,) = await accept(store, asked())
    (old,) = await take(store)
    await store.release(old)
    (claim,) = await take(store)
    with pytest.raises(FenceLostError):
        await store.define(old, simple_spec("old"))
    assert (await store.load(row.id)).request is not None
    await store.define(claim, simple_spec("new"))
    with pytest.raises(StoreError, match="already"):
        await store.define(claim, simple_spec("newer"))
    assert [job.name for job in (await store.load(row.id)).spec.jobs] == ["new"]


async def test_run_that_never_was_defined_can_end(store: Store) -> None:
    """A request that can't be compiled ends its run; nobody gets it any more, and its request can still be read."""
    (row,) = await accept(store, asked())
    (claim,) = await take(store)
    stored = await store.load(row.id)
    run = fold(row.id, stored.spec, stored.events)
    await commit(store, claim, run, ev.RunEnded(BEGIN, Status.FAILED, Reason.BAD_DEFINITION, "two faults"))
    await store.release(claim)
    ended = await store.load(row.id)
    assert (ended.row.status, ended.row.reason, ended.row.message) == (Status.FAILED, "bad_definition", "two faults")
    assert ended.request == stored.request
    assert await take(store) == []
    assert await store.unpublished(older_than_s=0, again_after_s=0, limit=10) == []


async def test_create_run_stores_what_is_kept(store: Store, harness: Harness) -> None:
    """The jobs kept of an earlier run are on record with the run itself, artifacts included."""
    row, _ = await submit(store, simple_spec("a", "b"))
    left = (ev.Artifact("out/ü", 5, "ab" * 32, True), ev.Artifact("link", 1, "cd" * 32, link="out"))
    kept = (ev.JobKept(BEGIN, "b", f"{row.id}/b/2", row.number, left),)
    new = NewRun(simple_spec("a", "b"), BEGIN, "ada", retry_of=row.number, kept=kept)
    again, _ = await store.create_run(new)
    stored = await store.load(again.id)
    run = fold(again.id, stored.spec, stored.events)
    assert stored.events == (ev.RunSubmitted(BEGIN, "ada"), *kept)
    assert (again.retry_of, stored.row) == (row.number, again)
    assert harness.rows(again.id) == expected_rows(run)
    assert run.job("b").artifacts == left
    run.take_changes()
    claim = await store.claim(again.id, "me")
    await commit(store, claim, run, ev.RunStarted(BEGIN))
    assert [seq for seq, _ in await store.read_events(again.id, 0)] == [1, 2, 3]
    assert state(fold(again.id, stored.spec, (await store.load(again.id)).events)) == state(run)


# ------------------------------------------------------------------------------------------------------------- claiming


async def test_claim_next_takes_higher_priority_first(store: Store) -> None:
    """Of runs that wait, those of higher priority are taken first, then the older ones; never more than wanted."""
    rows = await accept(store, *(asked(priority=priority) for priority in (0, 5, -1, 5, 0)))
    assert numbers(await take(store, limit=3), rows) == [2, 4, 1]
    assert numbers(await take(store, limit=9), rows) == [5, 3]
    assert await take(store) == []


async def test_claim_next_takes_turns_between_users(store: Store) -> None:
    """Users are served in turns, however many runs one has waiting, and those who have runs under way come later."""
    rows = await accept(store, *(asked(by="ada") for _ in range(6)), *(asked(by="bob") for _ in range(2)))
    assert numbers(await take(store, limit=3), rows) == [1, 7, 2]
    rows += await accept(store, asked(by="cy"))
    assert numbers(await take(store, limit=3), rows) == [9, 8, 3]  # ada has two under way, bob one, cy none


async def test_claim_next_leaves_undefined_runs_to_a_queue(store: Store) -> None:
    """Who takes no undefined runs gets the defined ones only."""
    (undefined,) = await accept(store, asked(priority=9))
    defined, _ = await submit(store)
    assert [claim.run_id for claim in await take(store, undefined=False)] == [defined.id]
    assert [claim.run_id for claim in await take(store)] == [undefined.id]


async def test_claim_next_leaves_what_a_live_owner_holds(open_store) -> None:
    """A run is held by its owner while that lives, also against itself; a released one, and one whose lease ran out, is free."""
    first, second = await open_store(), await open_store()
    rows = [(await submit(first))[0] for _ in range(3)]
    await first.keep_lease("one", LONG_S)
    claims = await take(first, "one")
    assert numbers(claims, rows) == [1, 2, 3]
    assert await take(second, "two") == await take(first, "one") == []
    await first.release(claims[1])
    assert numbers(await take(second, "two"), rows) == [2]
    await first.keep_lease("one", 0.0)
    again = await take(second, "two")
    assert numbers(again, rows) == [1, 3]
    assert all(new.fence > old.fence for new, old in zip(again, (claims[0], claims[2]), strict=True))
    with pytest.raises(FenceLostError):
        await first.release(claims[0])


async def test_claim_next_takes_from_a_killed_process_at_once(store: Store, harness: Harness) -> None:
    """After `kill -9` of a conductor on this host its runs are free, however long its lease still runs."""
    row, _ = await submit(store)
    other, _ = await submit(store)
    children = [await spawn(harness, "hold", run.id) for run in (row, other)]
    for child in children:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"held\n"
    assert await take(store) == []
    for child in children:
        child.kill()
        await child.communicate()
    assert sorted(claim.run_id for claim in await take(store, limit=2)) == sorted([row.id, other.id])


async def test_claim_next_waits_for_the_lease_of_another_host(store: Store, harness: Harness) -> None:
    """Of a process on another host nothing is known: its runs are not taken before its lease has run out."""
    row, _ = await submit(store)
    child = await spawn(harness, "hold", row.id)
    assert child.stdout is not None
    await child.stdout.readline()
    child.kill()
    await child.communicate()
    harness.move_to_another_host("holder")
    assert await take(store) == []


async def test_claim_next_keeps_to_the_place_of_attempts(store: Store) -> None:
    """A run with an attempt under way is taken at its place only, while that place is heard of; one without, anywhere."""
    busy, run = await submit(store)
    idle, _ = await submit(store)
    await store.keep_lease("one", LONG_S, "north")
    claims = {claim.run_id: claim for claim in await take(store, "one", place="north")}
    await start_attempt(store, claims[busy.id], run)
    await store.release(claims[busy.id])
    await store.release(claims[idle.id])
    assert [claim.run_id for claim in await take(store, "two", place="south", abandon_s=LONG_S)] == [idle.id]
    assert [claim.run_id for claim in await take(store, "three", place="north", abandon_s=LONG_S)] == [busy.id]


async def test_claim_next_takes_from_an_abandoned_place(store: Store) -> None:
    """When no conductor of a place was heard of for long enough, its runs are taken elsewhere."""
    row, run = await submit(store)
    await store.keep_lease("one", LONG_S, "north")
    (claim,) = await take(store, "one", place="north")
    await start_attempt(store, claim, run)
    await store.keep_lease("one", 0.0, "north")
    assert await take(store, "two", place="south", abandon_s=LONG_S) == []
    assert [it.run_id for it in await take(store, "two", place="south", abandon_s=0.0)] == [row.id]


async def test_eight_claimers_get_every_run_once(open_store) -> None:
    """Two hundred runs among eight who take them at once: each run is taken, and none twice."""
    stores = [await open_store() for _ in range(8)]
    rows = await accept(stores[0], *(asked(by=f"user {i % 3}") for i in range(200)))

    async def claim_all(i: int) -> list[Claim]:
        await stores[i].keep_lease(f"owner {i}", LONG_S)
        found: list[Claim] = []
        while claims := await take(stores[i], f"owner {i}", limit=7):
            found += claims
        return found

    found = [claim for claims in await asyncio.gather(*map(claim_all, range(8))) for claim in claims]
    while left := await take(stores[0], "owner 0"):  # a claimer that met only locked rows went home early
        found += left
    assert Counter(claim.run_id for claim in found) == dict.fromkeys((row.id for row in rows), 1)
    with pytest.raises(RunBusyError):
        await stores[0].claim(rows[0].id, "somebody else")


# --------------------------------------------------------------------------------------------------- telling and waking


async def test_waiter_hears_of_an_accepted_run_at_once(store: Store) -> None:
    """Who waits for a change wakes when a run is accepted by the same process, without a poll."""
    while await store.wait_for_change(0.15):
        pass
    waiting = asyncio.create_task(store.wait_for_change(20.0))
    await asyncio.sleep(0.01)
    await accept(store, asked())
    async with asyncio.timeout(5):
        assert await waiting


async def test_unpublished_tells_what_the_queue_does_not_know(store: Store) -> None:
    """Undefined runs are told until they are marked, again when that is long ago, and never once they are defined."""
    rows = await accept(store, asked(), asked(), asked())
    ids = [row.id for row in rows]

    async def unpublished(older_than_s: float = 0.0, again_after_s: float = LONG_S, limit: int = 10) -> list[str]:
        return await store.unpublished(older_than_s=older_than_s, again_after_s=again_after_s, limit=limit)

    assert await unpublished() == ids
    assert await unpublished(limit=2) == ids[:2]
    assert await unpublished(older_than_s=LONG_S) == []
    await store.mark_published([ids[0], ids[2], "nope"])
    assert await unpublished() == [ids[1]]
    assert await unpublished(again_after_s=0.0) == ids
    claim = await store.claim(ids[0], "me")
    await store.define(claim, simple_spec("a"))
    assert await unpublished(again_after_s=0.0) == ids[1:]


async def test_tables_write_all_or_nothing(store: Store) -> None:
    """Statements on small tables are one transaction, give the rows they return, and are read with the same marks."""
    (row,) = await accept(store, asked())
    insert = "INSERT INTO request (run, kind, body, asked_at) VALUES (?, ?, ?, ?)"
    answers = await store.tables.write(
        (insert, (row.number, "one", "{}", 1)),
        ("UPDATE request SET asked_at = ? WHERE kind = ? RETURNING kind, asked_at", (7, "one")),
    )
    assert [list(map(tuple, answer)) for answer in answers[1:]] == [[("one", 7)]]
    with pytest.raises(StoreError):
        await store.tables.write(
            (insert, (row.number, "two", "{}", 2)),
            (insert, (row.number, None, "{}", 3)),
        )
    found = await store.tables.read("SELECT kind, asked_at FROM request WHERE run = ? ORDER BY asked_at", row.number)
    assert list(map(tuple, found)) == [("one", 7)]


async def test_tables_know_marks_from_text(store: Store) -> None:
    """A question mark or a percent sign within quotes or a comment is no mark."""
    sql = "SELECT '?', 'it''s 100 % ?', '%s', ? AS \"what?\" -- why?\nWHERE 'a%' LIKE 'a%%'"
    assert [tuple(row) for row in await store.tables.read(sql, "x")] == [("?", "it's 100 % ?", "%s", "x")]


async def test_claim_and_release_leave_the_request_alone(store: Store) -> None:
    """Whoever takes an undefined run after another finds the same request, with a higher fence."""
    (row,) = await accept(store, asked())
    fences = []
    for _ in range(3):
        (claim,) = await take(store)
        fences.append(claim.fence)
        await store.release(claim)
    assert fences == sorted(set(fences))
    assert replace((await store.load(row.id)).row, owner=None) == replace(row, owner=None)
