"""What a group of commits writes: one statement, one round trip, one sync, however many runs there are in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from stretto.core.errors import StoreError
from stretto.core.ports import Claim
from stretto.store import rows
from stretto.store.batch import Batch, fence_lost
from stretto.store.postgres.database import Connection
from stretto.store.postgres.writer import Work
from stretto.store.query import read_queries

SQL: Final = read_queries("postgres")

_RUN: Final = ("n", "id", "fence", "seq", "count", "status", "reason", "message", "started_at", "ended_at")
_PARTS: Final[dict[str, tuple[str, ...]]] = {
    "events": ("n", "seq", "kind", "at", "body"),
    "jobs": ("n", "status", "reason", "message", "exit_code", "started_at", "ended_at", "job"),
    "attempts": (
        *("n", "job", "number", "status", "reason", "message", "exit_code", "starting_at", "started_at", "ended_at"),
        "handle",
    ),
    "artifacts": ("n", "job", "attempt", "path", "size_bytes", "digest", "executable", "link"),
    "settled": ("n", "id"),
}
"""The parts of the statement that are left out when they have no rows, and the columns of each, in the order of `rows`."""

Key = tuple[str, int]
"""A run's id and the fence of the claim that writes to it."""

Known = dict[str, tuple[int, int | None]]
"""Of each run that was claimed here: the fence of its newest claim, and the last event on record, None where that is in doubt."""


Append = Work[Batch]
"""One commit that waits."""


def not_known(claim: Claim) -> StoreError:
    """Return the error that says that an earlier commit of the claim was given up without an answer."""
    return StoreError(
        f"whether the last commit of run {claim.run_id} was written is not known: the run must be claimed and loaded again"
    )


def give_up(appends: Sequence[Append], known: Known) -> None:
    """Write nothing more under the claims of these: their owners must claim and load their runs again."""
    for append in appends:
        claim = append.payload.claim
        if known.get(claim.run_id, (claim.fence, 0))[0] == claim.fence:
            known[claim.run_id] = (claim.fence, None)


async def write_appends(connection: Connection, appends: Sequence[Append], known: Known) -> None:
    """Write the appends; those whose claim is lost get their error and change nothing.

    It may be repeated when its answer was lost: what is on record already is found there and not written again.
    """
    groups: dict[Key, list[Append]] = {}
    for append in appends:
        claim = append.payload.claim
        if known.get(claim.run_id) == (claim.fence, None):
            append.error = not_known(claim)
        else:
            groups.setdefault((claim.run_id, claim.fence), []).append(append)
    seqs = await _find_seqs(connection, groups, known)
    order = [key for key in groups if key in seqs]
    passed: set[int] = set()
    if order:
        sql, values = _statement([(key, seqs[key], groups[key]) for key in order])
        passed = {n for (n,) in await (await connection.execute(sql, values, prepare=True)).fetchall()}
        if len(passed) < len(order):
            passed |= await _find_written(connection, order, seqs, groups)
    for n, key in enumerate(order):
        if n in passed and known.get(key[0], (0, 0))[0] <= key[1]:
            known[key[0]] = (key[1], seqs[key] + _count(groups[key]))
    won = {order[n] for n in passed}
    for key, group in groups.items():
        if key not in won:
            for append in group:
                append.error = fence_lost(append.payload.claim)


async def _find_seqs(connection: Connection, groups: Mapping[Key, Sequence[Append]], known: Known) -> dict[Key, int]:
    """Return the last event of each run, looked up where it was not claimed here; none where the claim is lost."""
    seqs: dict[Key, int] = {}
    for key in groups:
        fence, seq = known.get(key[0], (None, None))
        if fence == key[1] and seq is not None:
            seqs[key] = seq
    strange = [key for key in groups if key not in seqs]
    if strange:
        wanted = rows.encode([{"n": n, "id": id_, "fence": fence} for n, (id_, fence) in enumerate(strange)])
        found = await (await connection.execute(SQL["select_seqs"], {"runs": wanted})).fetchall()
        seqs |= {strange[n]: seq for n, seq in found}
    return seqs


async def _find_written(
    connection: Connection,
    order: Sequence[Key],
    seqs: Mapping[Key, int],
    groups: Mapping[Key, Sequence[Append]],
) -> set[int]:
    """Return those (by place in `order`) that were written before, by a statement whose answer was lost."""
    wanted = [
        {"n": n, "id": key[0], "fence": key[1], "last": seqs[key] + _count(groups[key])}
        for n, key in enumerate(order)
        if _count(groups[key])
    ]
    return {
        n for (n,) in await (await connection.execute(SQL["select_written"], {"runs": rows.encode(wanted)})).fetchall()
    }


def _count(group: Sequence[Append]) -> int:
    return sum(len(append.payload.events) for append in group)


def _statement(work: Sequence[tuple[Key, int, Sequence[Append]]]) -> tuple[bytes, dict[str, str]]:
    """Return the statement that writes the groups, with its values: each a JSON list of rows."""
    runs: list[dict[str, Any]] = []
    parts: dict[str, list[dict[str, Any]]] = {name: [] for name in _PARTS}
    for n, ((run_id, fence), seq, group) in enumerate(work):
        state = group[-1].payload.state
        runs.append(dict(zip(_RUN, (n, run_id, fence, seq, _count(group), *state), strict=True)))
        for name, found in _rows(seq, group).items():
            parts[name] += [dict(zip(_PARTS[name], (n, *row), strict=True)) for row in found]
    used = [name for name in _PARTS if parts[name]]
    sql = "\n".join([SQL["append_runs"], *(SQL[f"append_{name}"] for name in used), SQL["append_end"]])
    return sql.encode(), {"runs": rows.encode(runs), **{name: rows.encode(parts[name]) for name in used}}


def _rows(seq: int, group: Sequence[Append]) -> dict[str, list[rows.Row]]:
    """Return the rows of one run by part; of several states of one row within the group, the last is the one to write."""
    batches = [append.payload for append in group]
    events = [event for batch in batches for event in batch.events]
    return {
        "events": [(seq + i, *event) for i, event in enumerate(events, start=1)],
        "jobs": list({row[-1]: row for batch in batches for row in batch.jobs}.values()),
        "attempts": list({row[:2]: row for batch in batches for row in batch.attempts}.values()),
        "artifacts": [row for batch in batches for row in batch.artifacts],
        "settled": [(id_,) for batch in batches for id_ in batch.settled],
    }
