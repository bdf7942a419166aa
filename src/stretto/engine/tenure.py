"""A run while somebody holds it: made a spec of if it has none yet, taken up where it stands, carried on to its end.

For the command that runs one run and for the conductor of a server alike. Whoever calls this holds the claim, and releases it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from stretto.core import events as ev
from stretto.core.errors import InputError, SourceError, StoreError, StrettoError
from stretto.core.ports import Claim, Driver, RunRow, Store, StoredRun, Trees
from stretto.core.spec import RunSpec
from stretto.core.states import Reason, Status
from stretto.engine.attempt import Places
from stretto.engine.conductor import CANCEL, Conductor, Parts, Watcher
from stretto.engine.recovery import replay, sweep
from stretto.engine.slots import Slots

log = logging.getLogger(__name__)

COMPILING: Final = "compiling"
"""The kind of request that says: a conductor set about compiling this run. What is left of one that died over it."""
MOST_TRIES: Final = 3
"""How often a run is compiled that brings its conductor down each time."""
TIDY_TIMEOUT_S: Final = 2.0
"""How long a conductor that hands a run over takes to say that it did not die over it."""

Compile = Callable[[RunRow, Mapping[str, Any]], Awaitable[RunSpec]]
"""Makes a spec of a run's request; InputError for what can't be made one of."""


@dataclass(frozen=True, slots=True)
class Means:
    """What runs are carried on with, the same for all runs of a process.

    `driver` gives the driver of a name; `place` names the back-ends that those reach; `attempts` is where attempts have their
    directories.
    """

    store: Store
    driver: Callable[[str], Driver]
    trees: Trees
    places: Places
    compile: Compile
    attempts: Path
    prepare_ahead: int
    place: str
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a run is compiled over which a conductor may have died, so that it is not taken for the fault of others."""


@dataclass(frozen=True, slots=True)
class Tenure:
    """The terms on which one run is held: see `conductor.Parts`. `defined` is called once the run has its spec, or is over."""

    claim: Claim
    slots: Slots
    owns: Callable[[], bool]
    changes: Callable[[str], Awaitable[object]] | None = None
    watch: Watcher | None = None
    defined: Callable[[], None] = lambda: None


async def carry_on(means: Means, tenure: Tenure) -> None:
    """Carry the run on to its end. Cancelling this leaves attempts running, to be adopted by whoever claims the run next.

    StoreError: what is on record is not known; the run may be carried on again under the same claim while that holds.
    """
    claim = tenure.claim
    stored = await means.store.load(claim.run_id)
    if stored.request is not None and stored.row.ended_at is None:
        stored = await _define(means, claim, stored, stored.request)
    tenure.defined()
    run = replay(claim.run_id, stored.spec, stored.events)
    drivers = {name: means.driver(name) for name in {job.driver for job in stored.spec.jobs}}
    if run.status is not Status.PENDING:
        await sweep(run, drivers, means.attempts)
    if run.is_over:
        return
    parts = Parts(
        store=means.store,
        drivers=drivers,
        trees=means.trees,
        places=means.places,
        slots=tenure.slots,
        attempts=means.attempts,
        prepare_ahead=means.prepare_ahead,
        place=means.place,
        changes=tenure.changes,
        owns=tenure.owns,
    )
    row = stored.row
    await Conductor(parts, claim, run, number=row.number, priority=row.priority, watch=tenure.watch).conduct()


async def give_up(means: Means, claim: Claim, message: str) -> None:
    """End the run, which nobody manages to make a spec of, as `failed`; one that has a spec or an end is left alone."""
    stored = await means.store.load(claim.run_id)
    if stored.request is not None and stored.row.ended_at is None:
        await _end(means, claim, stored, Status.FAILED, Reason.ENGINE_FAULT, message)


async def _define(means: Means, claim: Claim, stored: StoredRun, request: Mapping[str, Any]) -> StoredRun:
    """Give the run its spec, or end it where that can't be; return it as it is then.

    A conductor that dies over a request leaves a mark on it, so that it does not bring down one after the other. The first one
    leaves none, as nearly all succeed: that it died shows in the fence.
    """
    store, run_id = means.store, claim.run_id
    asked = await store.read_requests(run_id)
    if cancel := next((it for it in asked if it.kind == CANCEL and it.body.get("job") is None), None):
        now = means.places.clock.now()
        wish = ev.CancelRequested(now, by=cancel.body.get("by", ""))
        return await _end(means, claim, stored, Status.CANCELED, Reason.CANCEL_REQUESTED, None, wish)
    if sum(it.kind == COMPILING for it in asked) >= MOST_TRIES - 1:
        message = f"to compile it brought the conductor down {MOST_TRIES} times"
        return await _end(means, claim, stored, Status.FAILED, Reason.ENGINE_FAULT, message)
    if any(it.kind == COMPILING for it in asked):
        async with means.alone:
            return await _compile(means, claim, stored, request)
    return await _compile(means, claim, stored, request)


async def _compile(means: Means, claim: Claim, stored: StoredRun, request: Mapping[str, Any]) -> StoredRun:
    store, run_id = means.store, claim.run_id
    if marked := claim.fence > 1:
        await store.ask(run_id, COMPILING, {"owner": claim.owner})
    try:
        spec = await means.compile(stored.row, request)
    except InputError as error:
        reason = Reason.SOURCE_FAILED if isinstance(error, SourceError) else Reason.BAD_DEFINITION
        return await _end(means, claim, stored, Status.FAILED, reason, error.message)
    except asyncio.CancelledError:
        if marked:
            await _unmark(means, claim, stored)
        raise
    except StrettoError:
        raise
    except Exception:
        if not marked:
            await store.ask(run_id, COMPILING, {"owner": claim.owner})
        raise
    return StoredRun(await store.define(claim, spec), spec, stored.events)


async def _end(
    means: Means,
    claim: Claim,
    stored: StoredRun,
    status: Status,
    reason: Reason,
    message: str | None,
    *before: ev.Event,
) -> StoredRun:
    """End a run that has no spec and will get none; return it as it is then."""
    run = replay(claim.run_id, stored.spec, stored.events)
    events = [*before, ev.RunEnded(means.places.clock.now(), status, reason, message)]
    for event in events:
        run.apply(event)
    settled = [request.id for request in await means.store.read_requests(claim.run_id)]
    await means.store.commit(claim, events, run.take_changes(), settled)
    return await means.store.load(claim.run_id)


async def _unmark(means: Means, claim: Claim, stored: StoredRun) -> None:
    """Take back the last mark: whoever left it hands the run over in good order."""
    run = replay(claim.run_id, stored.spec, stored.events)
    try:
        async with asyncio.timeout(TIDY_TIMEOUT_S):
            marks = [it.id for it in await means.store.read_requests(claim.run_id) if it.kind == COMPILING]
            await means.store.commit(claim, (), run.take_changes(), marks[-1:])
    except (StoreError, TimeoutError) as error:
        log.warning("mark of a conductor not taken back", extra={"run": claim.run_id, "error": str(error)})
