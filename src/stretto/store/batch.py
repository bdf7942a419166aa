"""What one commit writes, and what stores say when they refuse: the same for every database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stretto.core.errors import FenceLostError, NotFoundError, RunBusyError
from stretto.core.events import Event
from stretto.core.ports import Claim
from stretto.core.run import Changes
from stretto.store import rows
from stretto.store.owner import Process


@dataclass(frozen=True, slots=True)
class Batch:
    """What one `commit` writes, taken from the run while it could not change."""

    claim: Claim
    state: rows.Row
    events: list[tuple[str, int, str]]
    jobs: list[rows.Row]
    attempts: list[rows.Row]
    artifacts: list[rows.Row]
    settled: tuple[int, ...]


def make_batch(claim: Claim, events: Sequence[Event], changes: Changes, settled: Iterable[int]) -> Batch:
    """Return what the commit writes."""
    return Batch(
        claim,
        rows.run_state(changes),
        [rows.event_values(event) for event in events],
        rows.changed_jobs(changes),
        rows.changed_attempts(events, changes),
        rows.left_artifacts(events, changes),
        tuple(settled),
    )


def fence_lost(claim: Claim) -> FenceLostError:
    """Return the error that says that the claim is not the newest any more."""
    return FenceLostError(
        f"run {claim.run_id} is not {claim.owner}'s any more: it was released or another took it over"
    )


def run_busy(number: int, holder: Process) -> RunBusyError:
    """Return the error that says who holds the run."""
    return RunBusyError(
        f"run {number} is owned by a live conductor (host {holder.host}, process {holder.pid})",
        hint=f"`stretto logs {number} -f` follows it, `stretto cancel {number}` ends it",
    )


def no_run(reference: str) -> NotFoundError:
    """Return the error that says that there is no such run."""
    return NotFoundError(f"there is no run {reference!r}", hint="`stretto runs` lists them")


def ambiguous(reference: str) -> NotFoundError:
    """Return the error that says that several runs may be meant."""
    return NotFoundError(
        f"the ids of several runs start with {reference!r}", hint="write more of the id, or the run's number"
    )
