"""What a report says, as values: the public contract of `docs/report.md` in Python.

Field names are the keys of the JSON document; `to_json` and `from_json` are exact inverses. A report is a snapshot: it holds no
reference to the run that it was built from, and nothing here looks at a clock. All times are aware UTC with whole milliseconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Final, TypeVar

from stretto.core.errors import StrettoError
from stretto.core.events import Artifact
from stretto.core.frozen import frozen
from stretto.core.states import FINAL, Reason, Status

SCHEMA: Final = "stretto.report/1"

EXIT_SUCCESS: Final = 0
EXIT_FAILED: Final = 1
EXIT_CANCELED: Final = 4
EXIT_TIMED_OUT: Final = 5


@frozen
class AttemptReport:
    """One try at a job.

    `started_at` is when it was put on record as starting; `setup_s` how long its driver then took to have it started, None if
    it never did; `script_s` the time between start and end of the script by the back-end's clock, None where that is unknown.
    """

    number: int
    status: Status
    reason: str | None
    message: str | None
    exit_code: int | None
    started_at: datetime
    ended_at: datetime | None
    duration_s: float
    setup_s: float | None
    script_s: float | None


@frozen
class Kept:
    """The attempt of an earlier run (its number and id) that a job's success and artifacts are from."""

    run: int
    run_id: str
    attempt: int


@frozen
class JobReport:
    """One job with its attempts.

    `needs` None means that it waits for all earlier stages. `queue_s` runs from `ready_at` to `started_at` (or to now while the
    job waits) and is None for a job that never started; `duration_s` runs from its first attempt's start to its end or to now.
    `retry_at` is set while a retry waits for its back-off, `kept_from` for a job that did not run, as it had in an earlier run.
    """

    name: str
    status: Status
    reason: str | None
    message: str | None
    exit_code: int | None
    needs: tuple[str, ...] | None
    when: str
    allow_failure: bool
    max_attempts: int
    driver: str
    image: str | None
    ready_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    retry_at: datetime | None
    queue_s: float | None
    duration_s: float | None
    attempts: tuple[AttemptReport, ...]
    artifacts: tuple[Artifact, ...]
    kept_from: Kept | None = None


@frozen
class StageReport:
    """One stage. `started_at` is that of its first job to start, `ended_at` that of its last job to end."""

    name: str
    status: Status
    started_at: datetime | None
    ended_at: datetime | None
    jobs: tuple[JobReport, ...]


@frozen
class RunReport:
    """The run itself. `queue_s` is the time from its submission to its start, `duration_s` from there to its end or to now.

    `retry_of` is the number of the run that it does again.
    """

    number: int
    id: str
    kind: str
    name: str
    status: Status
    reason: str | None
    message: str | None
    repository: str | None
    branch: str | None
    tag: str | None
    commit: str | None
    commit_message: str | None
    definition: str | None
    submitted_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    queue_s: float | None
    duration_s: float | None
    retry_of: int | None = None


@frozen
class CriticalPath:
    """The jobs on the longest way through the graph, first to last, and the sum of their durations."""

    jobs: tuple[str, ...]
    duration_s: float


@frozen
class Report:
    """All that is told of one run, as of `generated_at`. `counts` has the number of jobs for every status."""

    generated_at: datetime
    run: RunReport
    counts: Mapping[Status, int]
    critical_path: CriticalPath
    stages: tuple[StageReport, ...]

    @property
    def is_over(self) -> bool:
        """Whether the run has its final status."""
        return self.run.status in FINAL

    def jobs(self) -> Iterator[tuple[StageReport, JobReport]]:
        """Yield every job with its stage, in the order of the definition."""
        for stage in self.stages:
            for job in stage.jobs:
                yield stage, job


def exit_code(report: Report) -> int:
    """Return what a command that ran this run to its end exits with; ValueError while the run is not over."""
    if not report.is_over:
        raise ValueError(f"run {report.run.number} is {report.run.status}: it has no exit code yet")
    if report.run.reason == Reason.TIMEOUT:
        return EXIT_TIMED_OUT
    return {Status.FAILED: EXIT_FAILED, Status.CANCELED: EXIT_CANCELED}.get(report.run.status, EXIT_SUCCESS)


def format_time(at: datetime) -> str:
    """Return a UTC time in ISO 8601 with milliseconds and `Z`."""
    return at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as plain JSON data, by the schema of `reports.schema`."""
    data: dict[str, Any] = {"schema": SCHEMA}
    data.update(_pack(report))
    return data


def from_json(data: Mapping[str, Any]) -> Report:
    """Return the report that `to_json` made `data` from; unknown keys are passed over, another version is refused."""
    if data.get("schema") != SCHEMA:
        raise StrettoError(f"the report has schema {data.get('schema')!r}; this Stretto reads {SCHEMA!r}")
    path = data["critical_path"]
    return Report(
        generated_at=datetime.fromisoformat(data["generated_at"]),
        run=_read(RunReport, data["run"]),
        counts={Status(name): number for name, number in data["counts"].items()},
        critical_path=CriticalPath(tuple(path["jobs"]), path["duration_s"]),
        stages=tuple(
            _read(StageReport, stage, jobs=tuple(_read_job(job) for job in stage["jobs"])) for stage in data["stages"]
        ),
    )


def _pack(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _pack(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, tuple):
        return [_pack(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _pack(item) for key, item in value.items()}
    return value.value if isinstance(value, Enum) else value


_T = TypeVar("_T")


def _read(cls: type[_T], data: Mapping[str, Any], **nested: Any) -> _T:
    values = dict(nested)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # every caller gives a dataclass
        name = field.name
        if name in nested or (name not in data and field.default is not dataclasses.MISSING):
            continue  # a key that was added within this version is not in older documents
        value = data[name]
        if name.endswith("_at") and value is not None:
            value = datetime.fromisoformat(value)
        values[name] = Status(value) if name == "status" else value
    return cls(**values)


def _read_job(data: Mapping[str, Any]) -> JobReport:
    return _read(
        JobReport,
        data,
        needs=None if data["needs"] is None else tuple(data["needs"]),
        attempts=tuple(_read(AttemptReport, attempt) for attempt in data["attempts"]),
        artifacts=tuple(_read(Artifact, artifact) for artifact in data["artifacts"]),
        kept_from=None if (kept := data.get("kept_from")) is None else _read(Kept, kept),
    )
