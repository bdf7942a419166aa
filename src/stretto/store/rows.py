"""Between values and rows: how runs, events and what follows from them are laid down in columns, and read back.

Times are whole microseconds since 1970-01-01 UTC, so that an event comes back exactly as it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from stretto.core import events as ev
from stretto.core import spec as specs
from stretto.core.ports import NewRequest, NewRun, RunRow
from stretto.core.run import Attempt, Changes, JobRun, Run
from stretto.core.states import Status

Row = tuple[Any, ...]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ID_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_ID_LENGTH: Final = 26

encode = json.JSONEncoder(separators=(",", ":")).encode
"""JSON without blanks; one encoder for all, as `json.dumps` with options makes a new one each time.

ASCII only, so that names of files which are no valid UTF-8 (surrogates in Python) come back as they were.
"""


def micros(at: datetime) -> int:
    """Return the time in microseconds since the epoch; exact, unlike a float."""
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment(micros: int) -> datetime:
    """Return the time that `micros` made the number of."""
    return _EPOCH + timedelta(microseconds=micros)


def new_id(at: datetime) -> str:
    """Return a new run id: 26 characters, 48 bits of milliseconds and then 80 of chance, so that ids sort by time."""
    number = (micros(at) // 1_000 & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10))
    return "".join(_ID_ALPHABET[number >> shift & 31] for shift in range((_ID_LENGTH - 1) * 5, -1, -5))


def run_values(new: NewRun) -> Row:
    """Return the columns of `insert_run` for a new run."""
    spec, source = new.spec, new.spec.source
    return (
        new_id(new.created_at),
        new.idempotency_key,
        spec.kind,
        spec.name,
        Status.PENDING,
        source.repository if source else None,
        source.branch if source else None,
        source.commit if source else None,
        text(source.commit_message) if source else None,
        new.driver,
        new.by,
        micros(new.created_at),
        new.priority,
    )


def first_events(new: NewRun) -> tuple[ev.Event, ...]:
    """Return the events that a new run begins with: RunSubmitted, and the jobs that are kept of an earlier run."""
    return (ev.RunSubmitted(new.created_at, new.by), *new.kept)


def first_changes(new: NewRun) -> Changes:
    """Return what its first events make of the jobs of a new run."""
    run = Run("", new.spec)
    for event in first_events(new):
        run.apply(event)
    return run.take_changes()


def request_values(new: NewRequest) -> Row:
    """Return the columns of `insert_run` for a run that is not yet compiled."""
    facts = (new.kind, new.name, Status.PENDING, new.repository, new.branch, None, None, new.driver, new.by)
    return (new_id(new.created_at), new.idempotency_key, *facts, micros(new.created_at), new.priority)


def defined_values(spec: specs.RunSpec) -> Row:
    """Return the columns of `define_run` for what an undefined run turned out to be."""
    source = spec.source
    if source is None:
        return (spec.kind, spec.name, None, None, None, None)
    return (spec.kind, spec.name, source.repository, source.branch, source.commit, text(source.commit_message))


def undefined_spec(row: RunRow) -> specs.RunSpec:
    """Return what stands for the spec of a run that is not yet compiled."""
    return specs.RunSpec(row.kind, row.name, (), ())


def spec_text(spec: specs.RunSpec) -> str:
    """Return the spec as it is stored."""
    return encode(specs.to_json(spec))


def decode(body: str) -> Any:
    """Return what `encode` made the text of."""
    return json.loads(body)


def read_spec(body: str) -> specs.RunSpec:
    """Return the spec that `spec_text` made."""
    return specs.from_json(json.loads(body))


def event_values(event: ev.Event) -> tuple[str, int, str]:
    """Return kind, time and body of an event."""
    return ev.KIND_OF[type(event)], micros(event.at), encode(ev.to_json(event))


def read_event(kind: str, at: int, body: str) -> ev.Event:
    """Return the event that `event_values` made the columns of."""
    return ev.from_json(kind, moment(at), json.loads(body))


def changed_jobs(changes: Changes) -> list[Row]:
    """Return the columns of `update_job`, but for the run's number, of every job that changed."""
    return [
        (
            job.status,
            job.reason,
            text(job.message),
            job.exit_code,
            _maybe(job.started_at),
            _maybe(job.ended_at),
            job.index,
        )
        for job in changes.jobs
    ]


def changed_attempts(events: Iterable[ev.Event], changes: Changes) -> list[Row]:
    """Return the columns of `write_attempt`, but for the run's number, of every attempt that `events` are about."""
    run, rows = changes.run, {}
    for event in events:
        if isinstance(event, ev.AttemptStarting | ev.AttemptStarted | ev.AttemptEnded):
            job = run.job(event.job)
            rows[job.index, event.number] = (job, job.attempts[event.number - 1])
    return [_attempt_values(job, attempt) for job, attempt in rows.values()]


def left_artifacts(events: Iterable[ev.Event], changes: Changes) -> list[Row]:
    """Return the columns of `insert_artifact`, but for the run's number, of every artifact that came with `events`.

    Those of a job that was kept have 0 for the attempt: it had none in this run.
    """
    return [
        (
            changes.run.graph.index[event.job],
            event.number if isinstance(event, ev.AttemptEnded) else 0,
            text(item.path),
            item.size_bytes,
            item.digest,
            item.executable,
            text(item.link),
        )
        for event in events
        if isinstance(event, ev.AttemptEnded | ev.JobKept)
        for item in event.artifacts
    ]


def run_state(changes: Changes) -> Row:
    """Return the columns of `advance_run` that tell how the run stands."""
    run = changes.run
    return (run.status, run.reason, text(run.message), _maybe(run.started_at), _maybe(run.ended_at))


def read_run(row: Sequence[Any]) -> RunRow:
    """Return the run that a row of `select_run` and its like stands for."""
    (id_, number, kind, name, status, reason, message, repository, branch, commit, commit_message, *more) = row
    created_at, started_at, ended_at, owner, priority, by, retry_of = more
    return RunRow(
        id=id_,
        number=number,
        kind=kind,
        name=name,
        status=Status(status),
        reason=reason,
        message=message,
        repository=repository,
        branch=branch,
        commit=commit,
        commit_message=commit_message,
        created_at=moment(created_at),
        started_at=None if started_at is None else moment(started_at),
        ended_at=None if ended_at is None else moment(ended_at),
        owner=owner,
        priority=priority,
        by=by,
        retry_of=retry_of,
    )


def _attempt_values(job: JobRun, attempt: Attempt) -> Row:
    outcome, handle = attempt.outcome, attempt.handle
    return (
        job.index,
        attempt.number,
        attempt.status,
        outcome.reason if outcome else None,
        text(outcome.message) if outcome else None,
        outcome.exit_code if outcome else None,
        micros(attempt.starting_at),
        _maybe(attempt.started_at),
        _maybe(attempt.ended_at),
        None if handle is None else encode({"driver": handle.driver, "key": handle.key, "ref": dict(handle.ref)}),
    )


def text(value: str | None) -> str | None:
    """Return the text as a column can hold it: NUL and what is no valid Unicode as escapes (the event has it unchanged)."""
    if value is None or (value.isascii() and "\0" not in value):
        return value
    return value.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _maybe(at: datetime | None) -> int | None:
    return None if at is None else micros(at)
