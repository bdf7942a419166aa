"""A run as it stands: the fold of its events over its spec.

`Run.apply` is the only thing that changes a run. It takes facts and decisions alike, refuses what the state does not allow,
and keeps what `decide` needs at hand (who is ripe, queued, running, to be closed), so that neither costs more than what changed.
It is deterministic: the same events give the same run, whenever and wherever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from stretto.core import events as ev
from stretto.core.errors import TransitionError
from stretto.core.graph import build
from stretto.core.spec import AttemptKey, JobSpec, RunSpec
from stretto.core.states import FINAL, TRANSITIONS, Reason, Status, roll_up


@dataclass(slots=True)
class Attempt:
    """One try at a job. `started_at` is when its driver had it started, `handle` what the driver gave back.

    `place` names the back-ends it is on, None where nobody reaches others.
    """

    number: int
    starting_at: datetime
    status: Status = Status.RUNNING
    started_at: datetime | None = None
    ended_at: datetime | None = None
    handle: ev.Handle | None = None
    outcome: ev.Outcome | None = None
    stop_reason: str | None = None
    artifacts: tuple[ev.Artifact, ...] = ()
    place: str | None = None


@dataclass(slots=True)
class JobRun:
    """A job as it stands.

    `ready_at` is when it was first allowed to start, `started_at` when its first attempt was; `waits` counts the needed jobs
    that are not over; `not_before` is set while a retry waits for its back-off.
    """

    spec: JobSpec
    index: int
    waits: int = 0
    status: Status = Status.PENDING
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None
    ready_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    not_before: datetime | None = None
    cancel_requested: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    kept: ev.JobKept | None = None
    """Set where the job succeeded in an earlier run and does not run in this one."""

    @property
    def last(self) -> Attempt | None:
        """The latest attempt, None before the first."""
        return self.attempts[-1] if self.attempts else None

    @property
    def artifacts(self) -> tuple[ev.Artifact, ...]:
        """What the job left for others: the artifacts of its latest attempt, or of the one that was kept."""
        if self.kept is not None:
            return self.kept.artifacts
        return self.attempts[-1].artifacts if self.attempts else ()

    @property
    def blocks(self) -> bool:
        """Whether the job ended in a way that stops the run."""
        return self.status in (Status.FAILED, Status.CANCELED) and not self.spec.allow_failure


@dataclass(slots=True)
class Changes:
    """The jobs (by index) that changed since the last `take_changes`, with the run they belong to."""

    run: Run
    jobs: tuple[JobRun, ...]
    run_changed: bool


class Run:
    """One execution of a spec. Read freely; change only with `apply`."""

    def __init__(self, run_id: str, spec: RunSpec) -> None:
        self.id = run_id
        self.spec = spec
        self.graph = build(spec)
        self.jobs = [
            JobRun(job, i, waits=len(needs) if (needs := self.graph.needs[i]) is not None else 0)
            for i, job in enumerate(spec.jobs)
        ]
        self.status = Status.PENDING
        self.reason: str | None = None
        self.message: str | None = None
        self.created_at: datetime | None = None
        self.started_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.by = ""
        self.events_applied = 0

        self.stopping: str | None = None
        """Why nothing new may start (`job_failed`, `timeout`, `cancel_requested`); None while all goes well."""
        self.ripe: dict[int, None] = {}
        """Jobs whose needs are over, on which nothing is decided yet."""
        self.queued: dict[str, dict[int, None]] = {job.driver: {} for job in spec.jobs}
        """Jobs that may start and wait for a slot, by driver."""
        self.running: dict[int, None] = {}
        self.timed: dict[int, None] = {}
        """Jobs with a time limit that have an attempt under way."""
        self.failed_once: dict[int, None] = {}
        """Jobs whose last attempt failed, on whose next one nothing is decided yet."""
        self.backing_off: dict[int, None] = {}
        """Jobs that wait for `not_before` to be tried again."""
        self.unstarted: dict[int, None] = dict.fromkeys(range(len(self.jobs)))
        """Jobs that have no attempt under way and are not over."""
        self.cancels: dict[int, None] = {}
        """Jobs that somebody wants canceled and that are not over."""

        self._left_in_stage = [len(members) for members in self.graph.members]
        self._failed_in_stage = [0] * len(spec.stages)
        self._turn = -1
        self._touched: dict[int, None] = {}
        self._run_touched = False

    # ------------------------------------------------------------------------------------------------------ reading

    @property
    def is_over(self) -> bool:
        """Whether the run has its final status."""
        return self.status in FINAL

    @property
    def deadline(self) -> datetime | None:
        """When the run's own time limit is reached."""
        if self.started_at is None or self.spec.timeout_s is None:
            return None
        return self.started_at + timedelta(seconds=self.spec.timeout_s)

    def job(self, name: str) -> JobRun:
        """Return the job of this name; KeyError."""
        return self.jobs[self.graph.index[name]]

    def key(self, job: JobRun) -> AttemptKey:
        """Return the key of the job's latest attempt."""
        return AttemptKey(self.id, job.spec.name, len(job.attempts))

    def artifacts_key(self, job: JobRun) -> AttemptKey:
        """Return the key of the attempt that left the job's artifacts: of an earlier run where the job was kept."""
        return self.key(job) if job.kept is None else AttemptKey.parse(job.kept.origin)

    def needed(self, job: JobRun) -> Iterable[JobRun]:
        """Return the jobs that `job` waits for: those it names, or all of earlier stages."""
        needs = self.graph.needs[job.index]
        if needs is not None:
            return [self.jobs[i] for i in needs]
        stage = self.graph.stage_of[job.index]
        return [self.jobs[i] for members in self.graph.members[:stage] for i in members]

    def failed_before(self, job: JobRun) -> bool:
        """Say whether something that `job` waits for failed (allowed or not)."""
        if self.graph.needs[job.index] is not None:
            return any(needed.status is Status.FAILED for needed in self.needed(job))
        return any(self._failed_in_stage[: self.graph.stage_of[job.index]])

    def stage_status(self, stage: int) -> Status:
        """Return the status of the stage with this index."""
        return roll_up(self.jobs[i].status for i in self.graph.members[stage])

    def take_changes(self) -> Changes:
        """Return what changed since the last call, and forget it."""
        changes = Changes(self, tuple(self.jobs[i] for i in self._touched), self._run_touched)
        self._touched, self._run_touched = {}, False
        return changes

    # ----------------------------------------------------------------------------------------------------- changing

    def apply(self, event: ev.Event) -> None:
        """Take in what happened; TransitionError if it can't have happened now, and then nothing is changed."""
        _APPLY[type(event)](self, event)
        self.events_applied += 1

    def _submitted(self, event: ev.RunSubmitted) -> None:
        if self.created_at is not None:
            raise TransitionError(f"run {self.id} was submitted twice")
        self.created_at, self.by, self._run_touched = event.at, event.by, True

    def _kept(self, event: ev.JobKept) -> None:
        if self.created_at is None or self.status is not Status.PENDING:
            raise TransitionError(f"run {self.id} is {self.status}: job {event.job!r} can't be kept any more")
        job = self._named(event.job)
        self._close_job(job, Status.SUCCESS)
        job.kept, job.ended_at = event, event.at
        for i in self.graph.dependents[job.index]:
            self.jobs[i].waits -= 1

    def _started(self, event: ev.RunStarted) -> None:
        self._move(Status.RUNNING)
        self.started_at = event.at
        self._open_stages(event.at)
        for job in self.jobs:
            if self.graph.needs[job.index] is not None and job.waits == 0:
                self._ripen(job, event.at)

    def _timed_out(self, event: ev.RunTimedOut) -> None:
        self._stop(Reason.TIMEOUT)

    def _cancel_requested(self, event: ev.CancelRequested) -> None:
        if event.job is None:
            self._stop(Reason.CANCEL_REQUESTED)
            return
        job = self._of(event.job)
        if job.status not in FINAL:
            job.cancel_requested = True
            self.cancels[job.index] = None

    def _queued(self, event: ev.JobQueued) -> None:
        job = self._of(event.job)
        self._move_job(job, Status.QUEUED)
        job.not_before = None
        for group in (self.ripe, self.backing_off):
            group.pop(job.index, None)
        self.queued[job.spec.driver][job.index] = None

    def _attempt_starting(self, event: ev.AttemptStarting) -> None:
        job = self._of(event.job)
        if event.number != len(job.attempts) + 1:
            raise TransitionError(f"job {event.job!r}: attempt {event.number} can't follow {len(job.attempts)}")
        self._move_job(job, Status.RUNNING)
        job.attempts.append(Attempt(event.number, event.at, place=event.place))
        if job.ready_at is None:
            job.ready_at = event.at
        if job.started_at is None:
            job.started_at = event.at
        job.not_before = None
        for group in (self.ripe, self.queued[job.spec.driver], self.backing_off, self.unstarted):
            group.pop(job.index, None)
        self.running[job.index] = None
        if job.spec.timeout_s is not None:
            self.timed[job.index] = None

    def _attempt_started(self, event: ev.AttemptStarted) -> None:
        attempt = self._attempt(event.job, event.number)
        attempt.started_at, attempt.handle = event.at, event.handle

    def _stop_requested(self, event: ev.StopRequested) -> None:
        attempt = self._attempt(event.job, event.number)
        if attempt.stop_reason is not None:
            raise TransitionError(f"job {event.job!r}: attempt {event.number} was to be stopped already")
        attempt.stop_reason = event.reason

    def _attempt_ended(self, event: ev.AttemptEnded) -> None:
        attempt = self._attempt(event.job, event.number)
        job = self._of(event.job)
        outcome = _settle(event.outcome, attempt.stop_reason)
        attempt.outcome, attempt.status, attempt.ended_at = outcome, outcome.status, event.at
        attempt.artifacts = event.artifacts
        del self.running[job.index]
        self.timed.pop(job.index, None)
        retries_left = job.spec.retry.max_retries - (len(job.attempts) - 1)
        out_of_sight = outcome.reason == Reason.ENGINE_UNAVAILABLE and attempt.started_at is not None
        may_retry = outcome.status is Status.FAILED and retries_left > 0 and not job.cancel_requested
        may_retry = may_retry and not out_of_sight  # it may run still: a second one beside it would be one too many
        if may_retry and self.stopping is None:
            self._move_job(job, Status.PENDING)
            self.failed_once[job.index] = self.unstarted[job.index] = None
        else:
            self._end_job(job, outcome.status, outcome.reason, outcome.message, event.at)
        job.exit_code = outcome.exit_code

    def _retried(self, event: ev.JobRetried) -> None:
        job = self._of(event.job)
        if job.index not in self.failed_once:
            raise TransitionError(f"job {event.job!r} has no failed attempt to follow")
        del self.failed_once[job.index]
        job.not_before = event.not_before
        self.backing_off[job.index] = None
        self._touched[job.index] = None

    def _job_ended(self, event: ev.JobEnded) -> None:
        job = self._of(event.job)
        if job.index in self.running:
            raise TransitionError(f"job {event.job!r} can't end while an attempt of it is running")
        self._end_job(job, event.status, event.reason, event.message, event.at)

    def _run_ended(self, event: ev.RunEnded) -> None:
        if left := sum(self._left_in_stage):
            raise TransitionError(f"run {self.id} can't end: {left} jobs are not over")
        self._move(event.status)
        self.reason, self.message, self.ended_at = event.reason, event.message, event.at

    # ------------------------------------------------------------------------------------------------------- pieces

    def _of(self, name: str) -> JobRun:
        if self.status is not Status.RUNNING:
            raise TransitionError(f"run {self.id} is {self.status}: nothing can happen to job {name!r}")
        return self._named(name)

    def _named(self, name: str) -> JobRun:
        try:
            return self.jobs[self.graph.index[name]]
        except KeyError:
            raise TransitionError(f"run {self.id} has no job {name!r}") from None

    def _attempt(self, name: str, number: int) -> Attempt:
        job = self._of(name)
        if job.index not in self.running or job.attempts[-1].number != number:
            raise TransitionError(f"job {name!r}: attempt {number} is not running")
        return job.attempts[-1]

    def _move(self, status: Status) -> None:
        if status not in TRANSITIONS[self.status]:
            raise TransitionError(f"run {self.id} can't go from {self.status} to {status}")
        self.status, self._run_touched = status, True

    def _move_job(self, job: JobRun, status: Status) -> None:
        if status not in TRANSITIONS[job.status]:
            raise TransitionError(f"job {job.spec.name!r} can't go from {job.status} to {status}")
        job.status = status
        self._touched[job.index] = None

    def _stop(self, reason: str) -> None:
        """Let nothing new start. A cancel outranks a timeout, that a failure."""
        if self.is_over:
            return
        ranks: list[str | None] = [None, Reason.JOB_FAILED, Reason.TIMEOUT, Reason.CANCEL_REQUESTED]
        if ranks.index(reason) > ranks.index(self.stopping):
            self.stopping = reason

    def _end_job(self, job: JobRun, status: Status, reason: str | None, message: str | None, at: datetime) -> None:
        self._close_job(job, status)
        job.reason, job.message, job.ended_at, job.not_before = reason, message, at, None
        if job.blocks:
            self._stop(Reason.JOB_FAILED)
        for i in self.graph.dependents[job.index]:
            follower = self.jobs[i]
            follower.waits -= 1
            if follower.waits == 0:
                self._ripen(follower, at)
        self._open_stages(at)

    def _close_job(self, job: JobRun, status: Status) -> None:
        """Give the job its final status, and have nothing open about it any more."""
        self._move_job(job, status)
        queued = self.queued[job.spec.driver]
        for group in (self.ripe, queued, self.failed_once, self.backing_off, self.unstarted, self.cancels):
            group.pop(job.index, None)
        stage = self.graph.stage_of[job.index]
        self._left_in_stage[stage] -= 1
        if status is Status.FAILED:
            self._failed_in_stage[stage] += 1

    def _open_stages(self, at: datetime) -> None:
        """Give the turn to every stage before which nothing is left to do."""
        while self._turn + 1 < len(self.spec.stages) and (self._turn < 0 or not self._left_in_stage[self._turn]):
            self._turn += 1
            for i in self.graph.members[self._turn]:
                if self.graph.needs[i] is None:
                    self._ripen(self.jobs[i], at)

    def _ripen(self, job: JobRun, at: datetime) -> None:
        if job.status is Status.PENDING and not job.attempts:
            job.ready_at = at
            self.ripe[job.index] = None


def _settle(outcome: ev.Outcome, stop_reason: str | None) -> ev.Outcome:
    """Return the outcome as it counts: one that we stopped ended for our reason, unless it succeeded before we could."""
    if stop_reason is None or outcome.status is Status.SUCCESS:
        return outcome
    timed_out = stop_reason == Reason.TIMEOUT
    return ev.Outcome(
        status=Status.FAILED if timed_out else Status.CANCELED,
        exit_code=outcome.exit_code,
        reason=stop_reason,
        message=_STOP_MESSAGES.get(stop_reason, outcome.message),
        started_at=outcome.started_at,
        ended_at=outcome.ended_at,
    )


_STOP_MESSAGES: dict[str, str] = {
    Reason.TIMEOUT: "stopped: the time limit was reached",
    Reason.CANCEL_REQUESTED: "stopped: cancel was requested",
    Reason.RUN_STOPPED: "stopped: another job of the run failed (fail_fast)",
}

_APPLY: dict[type[ev.Event], Callable[[Run, Any], None]] = {
    ev.RunSubmitted: Run._submitted,
    ev.JobKept: Run._kept,
    ev.RunStarted: Run._started,
    ev.RunTimedOut: Run._timed_out,
    ev.CancelRequested: Run._cancel_requested,
    ev.JobQueued: Run._queued,
    ev.AttemptStarting: Run._attempt_starting,
    ev.AttemptStarted: Run._attempt_started,
    ev.StopRequested: Run._stop_requested,
    ev.AttemptEnded: Run._attempt_ended,
    ev.JobRetried: Run._retried,
    ev.JobEnded: Run._job_ended,
    ev.RunEnded: Run._run_ended,
}
