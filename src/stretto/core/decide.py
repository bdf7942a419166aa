"""What should happen next. Pure: it reads a run and the time, and returns events that are decisions; it changes nothing.

`decide` is called again after its decisions were applied, until it has none left; `advance` does so. Each call looks only at
jobs about which something is open, never at the whole graph (except while a run is being stopped, which happens once).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from itertools import islice

from stretto.core import events as ev
from stretto.core.run import JobRun, Run
from stretto.core.spec import RetryPolicy, When
from stretto.core.states import FINAL, Reason, Status

NAMED_AT_MOST = 3
"""How many jobs a message for people lists by name."""


def decide(
    run: Run,
    now: datetime,
    *,
    free_slots: Mapping[str, int],
    draw: Callable[[], float],
    place: str | None = None,
) -> list[ev.Event]:
    """Return the decisions that are due at `now`, in the order they are to be applied.

    `free_slots` is how many attempts may start on each driver; `draw` gives a random number in [0, 1) for the back-off of
    retries; `place` is where attempts are started.
    """
    if run.is_over or run.created_at is None:
        return []
    if run.status is Status.PENDING:
        return [ev.RunStarted(now)]
    deadline = run.deadline
    if deadline is not None and now >= deadline and run.stopping not in (Reason.TIMEOUT, Reason.CANCEL_REQUESTED):
        return [ev.RunTimedOut(now)]
    closing = _close(run, now) if run.stopping or run.cancels else []
    stops = _stop_running(run, now)
    if closing or stops:
        return closing + stops
    decisions = _start(run, now, _Starter(run, now, dict(free_slots), place), draw)
    if not decisions and not run.unstarted and not run.running:
        decisions.append(_end(run, now))
    return decisions


def advance(
    run: Run,
    now: datetime,
    *,
    free_slots: Mapping[str, int],
    draw: Callable[[], float],
    place: str | None = None,
) -> list[ev.Event]:
    """Decide and apply until nothing is left to decide at `now`; return all decisions, in order."""
    made: list[ev.Event] = []
    free = dict(free_slots)
    while decisions := decide(run, now, free_slots=free, draw=draw, place=place):
        for decision in decisions:
            run.apply(decision)
            if type(decision) is ev.AttemptStarting:
                free[run.job(decision.job).spec.driver] -= 1
        made += decisions
    return made


def next_wake(run: Run) -> datetime | None:
    """Return when `decide` may have something to say though nothing happens until then; None for never."""
    times = [job.not_before for i in run.backing_off if (job := run.jobs[i]).not_before is not None]
    times += [due for i in run.timed if (due := _attempt_deadline(run.jobs[i])) is not None]
    if run.deadline is not None and run.stopping not in (Reason.TIMEOUT, Reason.CANCEL_REQUESTED) and not run.is_over:
        times.append(run.deadline)
    return min(times, default=None)


def backoff_s(policy: RetryPolicy, retry: int, draw: float) -> float:
    """Return how long to wait before retry number `retry` (from 1), in seconds."""
    doubled = policy.backoff_s * 2.0 ** min(retry - 1, 30)
    return min(doubled, policy.backoff_max_s) * (0.5 + draw / 2)


# ------------------------------------------------------------------------------------------------------------- stopping


def _close(run: Run, now: datetime) -> list[ev.Event]:
    """End the jobs that have no attempt under way and shall not get one."""
    closing: list[ev.Event] = []
    stopper = _who_stopped(run)
    for i in run.unstarted if run.stopping else run.cancels:
        job = run.jobs[i]
        if i in run.running:
            continue
        if job.cancel_requested or run.stopping == Reason.CANCEL_REQUESTED:
            closing.append(ev.JobEnded(now, job.spec.name, Status.CANCELED, Reason.CANCEL_REQUESTED))
        elif job.attempts:
            closing.append(_give_up(job, now))
        elif run.stopping == Reason.TIMEOUT:
            message = "the run's time limit was reached before it could start"
            closing.append(ev.JobEnded(now, job.spec.name, Status.SKIPPED, Reason.TIMEOUT, message))
        elif job.spec.when is When.ON_SUCCESS:
            closing.append(ev.JobEnded(now, job.spec.name, Status.SKIPPED, Reason.RUN_STOPPED, stopper))
    return closing


def _give_up(job: JobRun, now: datetime) -> ev.JobEnded:
    """End a job that waits to be tried again when the run is stopped: what its last attempt came to is what it came to."""
    outcome = job.attempts[-1].outcome
    reason = outcome.reason if outcome is not None and outcome.reason is not None else Reason.RUN_STOPPED
    message = "not tried again: the run was stopped"
    return ev.JobEnded(now, job.spec.name, Status.FAILED, reason, message)


def _stop_running(run: Run, now: datetime) -> list[ev.Event]:
    """Ask for the end of attempts that run and shall not."""
    stops: list[ev.Event] = []
    candidates = run.running if run.stopping else [*run.cancels, *run.timed]
    for i in candidates:
        job = run.jobs[i]
        attempt = job.last
        if i not in run.running or attempt is None or attempt.stop_reason is not None:
            continue
        if reason := _why_stop(run, job, now):
            stops.append(ev.StopRequested(now, job.spec.name, attempt.number, reason))
    return list({stop.job: stop for stop in stops if isinstance(stop, ev.StopRequested)}.values())


def _why_stop(run: Run, job: JobRun, now: datetime) -> str | None:
    if job.cancel_requested or run.stopping == Reason.CANCEL_REQUESTED:
        return Reason.CANCEL_REQUESTED
    due = _attempt_deadline(job)
    if run.stopping == Reason.TIMEOUT or (due is not None and now >= due):
        return Reason.TIMEOUT
    if run.stopping and run.spec.fail_fast and job.spec.when is When.ON_SUCCESS:
        return Reason.RUN_STOPPED
    return None


def _attempt_deadline(job: JobRun) -> datetime | None:
    attempt = job.last
    if attempt is None or attempt.stop_reason is not None or job.spec.timeout_s is None:
        return None
    return attempt.starting_at + timedelta(seconds=job.spec.timeout_s)


# ------------------------------------------------------------------------------------------------------------- starting


class _Starter:
    """Makes the decisions to start attempts, as long as there are slots."""

    def __init__(self, run: Run, now: datetime, free_slots: dict[str, int], place: str | None) -> None:
        self.run = run
        self.now = now
        self.free = free_slots
        self.place = place

    def start(self, job: JobRun) -> ev.Event:
        """Return the decision to start the next attempt of the job, or that it waits for a slot."""
        driver = job.spec.driver
        if self.free.get(driver, 0) <= 0:
            return ev.JobQueued(self.now, job.spec.name)
        self.free[driver] -= 1
        return ev.AttemptStarting(self.now, job.spec.name, len(job.attempts) + 1, self.place)

    def start_queued(self) -> list[ev.Event]:
        """Return the decisions to start those that waited for a slot, as far as there are any now."""
        return [
            self.start(self.run.jobs[i])
            for driver, waiting in self.run.queued.items()
            for i in islice(waiting, max(0, self.free.get(driver, 0)))
        ]


def _start(run: Run, now: datetime, starter: _Starter, draw: Callable[[], float]) -> list[ev.Event]:
    """Start what may start as far as slots go, those that waited for one first; skip what may not; plan retries."""
    decisions = starter.start_queued()
    for i in run.ripe:
        job = run.jobs[i]
        ended = _condition(run, job, now)
        decisions.append(starter.start(job) if ended is None else ended)
    for i in run.failed_once:
        job = run.jobs[i]
        wait = timedelta(seconds=backoff_s(job.spec.retry, len(job.attempts), draw()))
        decisions.append(ev.JobRetried(now, job.spec.name, now + wait))
    for i in run.backing_off:
        job = run.jobs[i]
        if job.not_before is not None and now >= job.not_before:
            decisions.append(starter.start(job))
    return decisions


def _condition(run: Run, job: JobRun, now: datetime) -> ev.JobEnded | None:
    """Return how a job ends whose needs are over, if it is not to run; None if it is."""
    when = job.spec.when
    if when is When.ALWAYS:
        return None
    if when is When.ON_FAILURE:
        if run.failed_before(job):
            return None
        return ev.JobEnded(now, job.spec.name, Status.SKIPPED, Reason.CONDITION, "nothing before it failed")
    if run.graph.needs[job.index] is None:
        return None
    missing = [needed for needed in run.needed(job) if needed.status is not Status.SUCCESS]
    if not missing:
        return None
    told = ", ".join(f"{needed.spec.name} ({needed.status})" for needed in missing[:NAMED_AT_MOST])
    more = f" and {len(missing) - NAMED_AT_MOST} more" if len(missing) > NAMED_AT_MOST else ""
    return ev.JobEnded(now, job.spec.name, Status.SKIPPED, Reason.NEEDS_FAILED, f"needs {told}{more}")


# --------------------------------------------------------------------------------------------------------------- ending


def _end(run: Run, now: datetime) -> ev.RunEnded:
    """Return what became of a run whose jobs are all over."""
    statuses = {job.status for job in run.jobs}
    canceled = [job for job in run.jobs if job.status is Status.CANCELED]
    if run.stopping == Reason.CANCEL_REQUESTED and canceled:
        return ev.RunEnded(now, Status.CANCELED, Reason.CANCEL_REQUESTED)
    if run.stopping == Reason.TIMEOUT and statuses - {Status.SUCCESS}:
        return ev.RunEnded(
            now, Status.FAILED, Reason.TIMEOUT, f"the run's time limit of {run.spec.timeout_s:g} s was reached"
        )
    blocking = [job for job in run.jobs if job.status is Status.FAILED and not job.spec.allow_failure]
    if blocking:
        return ev.RunEnded(now, Status.FAILED, Reason.JOB_FAILED, _names(blocking))
    if any(not job.spec.allow_failure for job in canceled):
        return ev.RunEnded(now, Status.CANCELED, Reason.JOB_CANCELED, _names(canceled))
    allowed = [job for job in run.jobs if job.status is Status.FAILED]
    if allowed:
        return ev.RunEnded(now, Status.FAILED, Reason.ALLOWED_FAILURE, _names(allowed))
    if canceled:
        return ev.RunEnded(now, Status.CANCELED, Reason.JOB_CANCELED, _names(canceled))
    assert statuses <= FINAL
    return ev.RunEnded(now, Status.SUCCESS)


def _names(jobs: list[JobRun]) -> str:
    told = ", ".join(job.spec.name for job in jobs[:NAMED_AT_MOST])
    more = f" and {len(jobs) - NAMED_AT_MOST} more" if len(jobs) > NAMED_AT_MOST else ""
    return f"{jobs[0].status}: {told}{more}"


def _who_stopped(run: Run) -> str | None:
    """Name the job whose end stopped the run."""
    for job in run.jobs:
        if job.blocks:
            return f"{job.spec.name} {job.status}"
    return None
