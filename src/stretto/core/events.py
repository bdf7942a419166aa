"""What can happen to a run. Events are appended and never changed; a run is the fold of its events over its spec.

Facts from outside (an outcome, a request) and decisions (an attempt is to start, a job is skipped) are both events. What a
decision asks of the world is done only after the event is on record, and done again after a crash, so every such action is
idempotent. `to_json` and `from_json` are exact inverses; an event of an unknown kind is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import datetime
from typing import Any, Final

from stretto.core.errors import StrettoError
from stretto.core.frozen import frozen
from stretto.core.states import Status

HANDLE_VERSION: Final = 1


@frozen
class Handle:
    """What a driver gives back: enough, with `ref` (JSON-able, the driver's own), to find the attempt after a crash."""

    driver: str
    key: str
    ref: Mapping[str, Any] = field(default_factory=dict)
    version: int = HANDLE_VERSION


@frozen
class Outcome:
    """How an attempt ended. `status` is `success`, `failed` or `canceled`; `exit_code` None means there was none.

    `reason` is a word of `states.Reason`, None with success; `message` is one sentence for people.
    """

    status: Status
    exit_code: int | None = None
    reason: str | None = None
    message: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@frozen
class Artifact:
    """A file that an attempt left: path within the tree (with `/`), size, SHA-256 in hex, whether it is executable.

    `link` is the target where the artifact is a symbolic link; its digest is then that of the target's text.
    """

    path: str
    size_bytes: int
    digest: str
    executable: bool = False
    link: str | None = None


@frozen
class RunSubmitted:
    """The run and its spec are stored. Always the first event."""

    at: datetime
    by: str = ""


@frozen
class JobKept:
    """The job succeeded in the run that this one does again, so it does not run: right after RunSubmitted, and never later.

    `origin` is the key of the attempt that left the artifacts, as text; `run` the number of its run.
    """

    at: datetime
    job: str
    origin: str
    run: int
    artifacts: tuple[Artifact, ...] = ()


@frozen
class RunStarted:
    """A conductor took the run up for the first time."""

    at: datetime


@frozen
class RunTimedOut:
    """The run's own time limit was reached: nothing starts any more and what runs is stopped."""

    at: datetime


@frozen
class CancelRequested:
    """Somebody (`by`) wants the run, or one job of it, canceled."""

    at: datetime
    job: str | None = None
    by: str = ""


@frozen
class JobQueued:
    """The job may start and waits for a slot."""

    at: datetime
    job: str


@frozen
class AttemptStarting:
    """Decision: the driver is to start this attempt. Recorded before the driver is asked.

    `place` names the back-ends it is started on; None where nobody reaches others.
    """

    at: datetime
    job: str
    number: int
    place: str | None = None


@frozen
class AttemptStarted:
    """The driver started (or adopted) the attempt."""

    at: datetime
    job: str
    number: int
    handle: Handle


@frozen
class StopRequested:
    """Decision: the driver is to stop this attempt; `reason` becomes that of the attempt if it does not succeed all the same."""

    at: datetime
    job: str
    number: int
    reason: str


@frozen
class AttemptEnded:
    """The attempt is over, with what it left behind."""

    at: datetime
    job: str
    number: int
    outcome: Outcome
    artifacts: tuple[Artifact, ...] = ()


@frozen
class JobRetried:
    """Decision: the job, whose last attempt failed, is tried again, not before `not_before`."""

    at: datetime
    job: str
    not_before: datetime


@frozen
class JobEnded:
    """Decision: the job is over without a (further) attempt."""

    at: datetime
    job: str
    status: Status
    reason: str
    message: str | None = None


@frozen
class RunEnded:
    """Decision: every job is over, and this is what became of the run. Always the last event."""

    at: datetime
    status: Status
    reason: str | None = None
    message: str | None = None


Event = (
    RunSubmitted
    | JobKept
    | RunStarted
    | RunTimedOut
    | CancelRequested
    | JobQueued
    | AttemptStarting
    | AttemptStarted
    | StopRequested
    | AttemptEnded
    | JobRetried
    | JobEnded
    | RunEnded
)

KINDS: Final[dict[str, type[Event]]] = {
    "run_submitted": RunSubmitted,
    "job_kept": JobKept,
    "run_started": RunStarted,
    "run_timed_out": RunTimedOut,
    "cancel_requested": CancelRequested,
    "job_queued": JobQueued,
    "attempt_starting": AttemptStarting,
    "attempt_started": AttemptStarted,
    "stop_requested": StopRequested,
    "attempt_ended": AttemptEnded,
    "job_retried": JobRetried,
    "job_ended": JobEnded,
    "run_ended": RunEnded,
}
KIND_OF: Final[dict[type[Event], str]] = {cls: kind for kind, cls in KINDS.items()}


def to_json(event: Event) -> dict[str, Any]:
    """Return the event's fields as plain JSON data, without kind and time: those have columns of their own."""
    return {
        name: _PACK.get(name, _same)(value)
        for name in event.__match_args__
        if name != "at" and (value := getattr(event, name)) is not None and value != ()
    }


def from_json(kind: str, at: datetime, data: Mapping[str, Any]) -> Event:
    """Return the event that `to_json` made `data` from."""
    cls = KINDS.get(kind)
    if cls is None:
        raise StrettoError(f"unknown event kind {kind!r}: the store was written by a newer Stretto")
    fields = {name: _UNPACK.get(name, _same)(value) for name, value in data.items()}
    return cls(at=at, **fields)


def to_record(event: Event) -> dict[str, Any]:
    """Return the whole event as plain JSON data, with its `kind` and time (`at`, ISO 8601 in microseconds)."""
    return {"kind": KIND_OF[type(event)], "at": event.at.isoformat()} | to_json(event)


def from_record(record: Mapping[str, Any]) -> Event:
    """Return the event that `to_record` made the record from."""
    data = {name: value for name, value in record.items() if name not in ("kind", "at")}
    return from_json(record["kind"], datetime.fromisoformat(record["at"]), data)


def _same(value: Any) -> Any:
    return value


def _pack_outcome(outcome: Outcome) -> dict[str, Any]:
    data: dict[str, Any] = {
        name: value for name in Outcome.__match_args__ if (value := getattr(outcome, name)) is not None
    }
    for name in ("started_at", "ended_at"):
        if name in data:
            data[name] = data[name].isoformat()
    return data


def _unpack_outcome(data: Mapping[str, Any]) -> Outcome:
    values = dict(data)
    for name in ("started_at", "ended_at"):
        if name in values:
            values[name] = datetime.fromisoformat(values[name])
    return Outcome(**{**values, "status": Status(values["status"])})


def _pack_handle(handle: Handle) -> dict[str, Any]:
    return {"driver": handle.driver, "key": handle.key, "ref": dict(handle.ref), "version": handle.version}


def _pack_artifact(artifact: Artifact) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(artifact, name) for name in Artifact.__match_args__}
    return {name: value for name, value in values.items() if value is not None and value is not False}


_PACK: Final[dict[str, Callable[[Any], Any]]] = {
    "outcome": _pack_outcome,
    "handle": _pack_handle,
    "artifacts": lambda items: [_pack_artifact(item) for item in items],
    "not_before": lambda at: at.isoformat(),
}
_UNPACK: Final[dict[str, Callable[[Any], Any]]] = {
    "outcome": _unpack_outcome,
    "handle": lambda data: Handle(**data),
    "artifacts": lambda items: tuple(Artifact(**item) for item in items),
    "not_before": datetime.fromisoformat,
    "status": Status,
}
