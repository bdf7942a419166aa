"""What a commit writes: the events, and the rows that follow from them, of all commits of a group at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from stretto.core.errors import FenceLostError
from stretto.core.frozen import frozen
from stretto.core.ports import Claim
from stretto.store import rows
from stretto.store.query import read_queries
from stretto.store.writer import Append

SQL: Final = read_queries("sqlite")


@frozen
class Batch:
    """What one `commit` writes, taken from the run while it could not change."""

    claim: Claim
    state: rows.Row
    events: list[tuple[str, int, str]]
    jobs: list[rows.Row]
    attempts: list[rows.Row]
    artifacts: list[rows.Row]
    settled: tuple[int, ...]


def write_appends(connection: sqlite3.Connection, appends: Sequence[Append]) -> None:
    """Write the appends, those of one claim together; those whose claim is lost get their error and change nothing."""
    by_claim: dict[Claim, list[Append]] = {}
    for append in appends:
        by_claim.setdefault(append.payload.claim, []).append(append)
    events: list[rows.Row] = []
    jobs: dict[tuple[int, int], rows.Row] = {}
    attempts: dict[tuple[int, int, int], rows.Row] = {}
    artifacts: list[rows.Row] = []
    settled: list[rows.Row] = []
    for claim, group in by_claim.items():
        count = sum(len(append.payload.events) for append in group)
        state = group[-1].payload.state
        passed = connection.execute(SQL["pass_fence"], (claim.run_id, claim.fence)).fetchone()
        if passed is None:
            for append in group:
                append.error = fence_lost(claim)
            continue
        run, seq = passed
        connection.execute(SQL["advance_run"], (seq + count, *state, run))
        for append in group:
            batch: Batch = append.payload
            for event in batch.events:
                seq += 1
                events.append((run, seq, *event))
            for row in batch.jobs:  # of several states of one row within a group, the last is the one to write
                jobs[run, row[-1]] = (*row[:-1], run, row[-1])
            for row in batch.attempts:
                attempts[run, row[0], row[1]] = (run, *row)
            artifacts += [(run, *row) for row in batch.artifacts]
            settled += [(run, id_) for id_ in batch.settled]
    for name, values in (
        ("insert_event", events),
        ("update_job", jobs.values()),
        ("write_attempt", attempts.values()),
        ("insert_artifact", artifacts),
        ("settle_request", settled),
    ):
        if values:
            connection.executemany(SQL[name], values)


def fence_lost(claim: Claim) -> FenceLostError:
    """Return the error that says that the claim is not the newest any more."""
    return FenceLostError(
        f"run {claim.run_id} is not {claim.owner}'s any more: it was released or another took it over"
    )
