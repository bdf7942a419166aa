"""What a group of submissions writes: runs with their spec, and runs accepted before they have one; one statement for all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stretto.core.errors import StoreError
from stretto.core.events import Event, RunSubmitted
from stretto.core.ports import NewRequest, NewRun, RunRow
from stretto.core.spec import RunSpec
from stretto.core.states import Status
from stretto.store import rows
from stretto.store.postgres.append import SQL
from stretto.store.postgres.database import Connection
from stretto.store.postgres.writer import Work

_RUN: Final = (
    *("id", "key", "kind", "name", "status", "repository", "branch", "commit", "commit_message", "driver", "by"),
    *("created_at", "priority"),
)
"""The names of what `rows.run_values` returns, as the statement has them."""
_JOB: Final = ("status", "reason", "message", "exit_code", "started_at", "ended_at")
_ARTIFACT: Final = ("job", "attempt", "path", "size_bytes", "digest", "executable", "link")

Named = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Submission:
    """A run to store: its columns, and the rows of what belongs to it, each by the columns' names."""

    run: Named
    events: list[Named]
    jobs: list[Named]
    artifacts: list[Named]


def of_run(new: NewRun, spec: str) -> Submission:
    """Return the submission of a run whose spec is known; `spec` is its text."""
    begin = rows.first_events(new)
    jobs = new_jobs(new.spec)
    artifacts: list[Named] = []
    if new.kept:
        changes = rows.first_changes(new)
        for *state, job in rows.changed_jobs(changes):
            jobs[job] |= dict(zip(_JOB, state, strict=True))
        artifacts = [dict(zip(_ARTIFACT, row, strict=True)) for row in rows.left_artifacts(begin, changes)]
    return Submission(_run(rows.run_values(new), new, len(begin), spec=spec), _events(begin), jobs, artifacts)


def of_request(new: NewRequest) -> Submission:
    """Return the submission of a run that is not yet compiled."""
    run = _run(rows.request_values(new), new, 1, request=rows.encode(dict(new.body)))
    return Submission(run, _events([RunSubmitted(new.created_at, new.by)]), [], [])


def new_jobs(spec: RunSpec) -> list[Named]:
    """Return the rows of the jobs of a run that just begins."""
    return [
        {"job": i, "name": job.name, "stage": job.stage, "status": Status.PENDING} for i, job in enumerate(spec.jobs)
    ]


def _run(values: rows.Row, new: NewRun | NewRequest, seq: int, **text: str) -> Named:
    named = dict(zip(_RUN, values, strict=True)) | {"retry_of": new.retry_of, "seq": seq, **text}
    return {name: rows.text(value) if isinstance(value, str) else value for name, value in named.items()}


def _events(events: Sequence[Event]) -> list[Named]:
    values = [rows.event_values(event) for event in events]
    return [{"seq": i, "kind": kind, "at": at, "body": body} for i, (kind, at, body) in enumerate(values, 1)]


async def write_submissions(connection: Connection, works: Sequence[Work[list[Submission]]]) -> None:
    """Store the runs of all works in one transaction and give each its rows, with False where the key was already there.

    It may be repeated when its answer was lost: runs that are on record already are found there.
    """
    new: dict[str, Submission] = {}
    for work in works:
        for submission in work.payload:
            new.setdefault(_name(submission), submission)
    numbered = dict(enumerate(new.values()))
    found = await _insert(connection, numbered)
    missing = [{"n": n, "id": it.run["id"], "key": it.run["key"]} for n, it in numbered.items() if n not in found]
    if missing:
        found |= _read(await (await connection.execute(SQL["select_submitted"], _parts(runs=missing))).fetchall())
    stored = {name: found.get(n) for n, name in enumerate(new)}
    for work in works:
        answers = [(stored[_name(it)], it.run["id"]) for it in work.payload]
        work.result = [(row, row.id == id_) for row, id_ in answers if row is not None]
        if len(work.result) < len(answers):  # the run of the same key was deleted in between
            work.error = StoreError("a run of the same idempotency key was deleted meanwhile: submit it again")


async def _insert(connection: Connection, numbered: Mapping[int, Submission]) -> dict[int, RunRow]:
    """Store those runs that are not there and return their rows."""
    parts: dict[str, list[Named]] = {"runs": [], "events": [], "jobs": [], "artifacts": []}
    for n, it in numbered.items():
        parts["runs"].append({"n": n, **it.run})
        for name, several in (("events", it.events), ("jobs", it.jobs), ("artifacts", it.artifacts)):
            parts[name] += [{"n": n, **row} for row in several]
    used = [name for name in parts if parts[name]]
    statement = "\n".join([*(SQL[f"submit_{name}"] for name in used), SQL["submit_end"]]).encode()
    values = _parts(**{name: parts[name] for name in used})
    keys = sorted(_lock(it.run["key"]) for it in numbered.values() if it.run["key"] is not None)
    if not keys:
        return _read(await (await connection.execute(statement, values, prepare=True)).fetchall())
    async with connection.pipeline(), connection.transaction():
        await connection.execute(SQL["lock_keys"], (keys,), prepare=True)
        cursor = await connection.execute(statement, values, prepare=True)
    return _read(await cursor.fetchall())


def _name(submission: Submission) -> str:
    """Return what two submissions of the same run have in common."""
    key = submission.run["key"]
    return f"id {submission.run['id']}" if key is None else f"key {key}"


def _lock(key: str) -> int:
    """Return the advisory lock of an idempotency key. Two keys that had the same one would only take turns."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], signed=True)


def _parts(**parts: Sequence[Named]) -> dict[str, str]:
    return {name: rows.encode(several) for name, several in parts.items()}


def _read(found: Sequence[Sequence[Any]]) -> dict[int, RunRow]:
    return {n: rows.read_run(row) for n, *row in found}
