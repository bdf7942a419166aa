"""From a run as it stands to the report on it.

Pure: the time is an argument, so that the same run at the same time gives the same report. A run that is not over has a report
too; its durations are those so far.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from stretto.core.events import JobKept
from stretto.core.graph import critical_path
from stretto.core.ports import RunRow
from stretto.core.run import Attempt, JobRun, Run
from stretto.core.spec import AttemptKey
from stretto.core.states import FINAL, Status
from stretto.reports.model import AttemptReport, CriticalPath, JobReport, Kept, Report, RunReport, StageReport

MICROSECONDS_PER_MS = 1000


def build(row: RunRow, run: Run, *, now: datetime) -> Report:
    """Return the report on `run` as of `now`; `row` gives what the run's events do not hold (its number, where it came from)."""
    now = _cut(now)
    jobs = [_job(job, now) for job in run.jobs]
    counts = Counter(job.status for job in jobs)
    return Report(
        generated_at=now,
        run=_run(row, run, now),
        counts={status: counts[status] for status in Status},
        critical_path=_critical_path(run, jobs),
        stages=tuple(
            _stage(name, run.stage_status(i), tuple(jobs[j] for j in run.graph.members[i]))
            for i, name in enumerate(run.spec.stages)
        ),
    )


def _run(row: RunRow, run: Run, now: datetime) -> RunReport:
    created_at, started_at, ended_at = _cut(row.created_at), _cut_maybe(run.started_at), _cut_maybe(run.ended_at)
    return RunReport(
        number=row.number,
        id=row.id,
        kind=row.kind,
        name=row.name,
        status=run.status,
        reason=run.reason,
        message=run.message,
        repository=row.repository,
        branch=row.branch,
        tag=run.spec.source.tag if run.spec.source is not None else None,
        commit=row.commit,
        commit_message=row.commit_message,
        definition=run.spec.definition,
        submitted_by=run.by,
        created_at=created_at,
        started_at=started_at,
        ended_at=ended_at,
        queue_s=_waited(created_at, started_at, ended_at, now),
        duration_s=_lasted(started_at, ended_at, now),
        retry_of=row.retry_of,
    )


def _stage(name: str, status: Status, jobs: tuple[JobReport, ...]) -> StageReport:
    started = [job.started_at for job in jobs if job.started_at is not None]
    ended = [job.ended_at for job in jobs if job.ended_at is not None]
    return StageReport(
        name=name,
        status=status,
        started_at=min(started, default=None),
        ended_at=max(ended, default=None) if status in FINAL else None,
        jobs=jobs,
    )


def _job(job: JobRun, now: datetime) -> JobReport:
    spec = job.spec
    ready_at, started_at, ended_at = _cut_maybe(job.ready_at), _cut_maybe(job.started_at), _cut_maybe(job.ended_at)
    return JobReport(
        name=spec.name,
        status=job.status,
        reason=job.reason,
        message=job.message,
        exit_code=job.exit_code,
        needs=None if spec.needs is None else tuple(need.job for need in spec.needs),
        when=spec.when.value,
        allow_failure=spec.allow_failure,
        max_attempts=1 + spec.retry.max_retries,
        driver=spec.driver,
        image=spec.container.image if spec.container is not None else None,
        ready_at=ready_at,
        started_at=started_at,
        ended_at=ended_at,
        retry_at=_cut_maybe(job.not_before),
        queue_s=_waited(ready_at, started_at, ended_at, now),
        duration_s=_lasted(started_at, ended_at, now),
        attempts=tuple(_attempt(attempt, now) for attempt in job.attempts),
        artifacts=job.artifacts,
        kept_from=None if job.kept is None else _kept(job.kept),
    )


def _kept(kept: JobKept) -> Kept:
    origin = AttemptKey.parse(kept.origin)
    return Kept(kept.run, origin.run_id, origin.number)


def _attempt(attempt: Attempt, now: datetime) -> AttemptReport:
    outcome = attempt.outcome
    starting_at, started_at, ended_at = (
        _cut(attempt.starting_at),
        _cut_maybe(attempt.started_at),
        _cut_maybe(attempt.ended_at),
    )
    script_s = None
    if outcome is not None and outcome.started_at is not None and outcome.ended_at is not None:
        script_s = _between(_cut(outcome.started_at), _cut(outcome.ended_at))
    return AttemptReport(
        number=attempt.number,
        status=attempt.status,
        reason=outcome.reason if outcome is not None else None,
        message=outcome.message if outcome is not None else None,
        exit_code=outcome.exit_code if outcome is not None else None,
        started_at=starting_at,
        ended_at=ended_at,
        duration_s=_between(starting_at, now if ended_at is None else ended_at),
        setup_s=_between(starting_at, started_at) if started_at is not None else None,
        script_s=script_s,
    )


def _critical_path(run: Run, jobs: list[JobReport]) -> CriticalPath:
    """Return the longest way through what ran; jobs that never started are left out of it."""
    duration_s = {job.name: job.duration_s for job in jobs if job.duration_s is not None}
    names = tuple(name for name in critical_path(run.spec, duration_s) if name in duration_s)
    return CriticalPath(names, round(sum(duration_s[name] for name in names), 3))


def _cut(at: datetime) -> datetime:
    """Return the time in UTC with whole milliseconds; durations are differences of such times, so that a report adds up."""
    return at.astimezone(UTC).replace(microsecond=at.microsecond // MICROSECONDS_PER_MS * MICROSECONDS_PER_MS)


def _cut_maybe(at: datetime | None) -> datetime | None:
    return None if at is None else _cut(at)


def _between(start: datetime, end: datetime) -> float:
    """Return the seconds from `start` to `end`, 0 where a clock was set back in between."""
    return max(0.0, round((end - start).total_seconds(), 3))


def _lasted(started_at: datetime | None, ended_at: datetime | None, now: datetime) -> float | None:
    if started_at is None:
        return None
    return _between(started_at, now if ended_at is None else ended_at)


def _waited(
    since: datetime | None, started_at: datetime | None, ended_at: datetime | None, now: datetime
) -> float | None:
    """Return how long something waited to be started, so far if it still waits, None if it never waited or never started."""
    if since is None or (started_at is None and ended_at is not None):
        return None
    return _between(since, now if started_at is None else started_at)
