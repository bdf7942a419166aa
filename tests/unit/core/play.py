"""Plays a spec through `decide` and `apply` alone: attempts end in the order of their planned ends, time is a number."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from stretto.core import events as ev
from stretto.core.decide import advance, next_wake
from stretto.core.run import Run
from stretto.core.spec import JobSpec, Need, RunSpec
from stretto.core.states import Reason, Status

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return the time that many seconds after the start."""
    return EPOCH + timedelta(seconds=seconds)


def job(name: str, stage: str = "a", needs: Sequence[str] | None = None, **fields: object) -> JobSpec:
    """Return a job; `needs` are names."""
    wanted = None if needs is None else tuple(Need(other) for other in needs)
    return JobSpec(name, stage, "fake", needs=wanted, **fields)  # type: ignore[arg-type]


def spec(*jobs: JobSpec, stages: Sequence[str] = ("a", "b", "c"), **fields: object) -> RunSpec:
    """Return a pipeline of these jobs."""
    return RunSpec("pipeline", "p", tuple(stages), jobs, **fields)  # type: ignore[arg-type]


@dataclass(slots=True)
class Played:
    """A finished play: the run, all events, and when each attempt started, in seconds."""

    run: Run
    events: list[ev.Event] = field(default_factory=list)
    starts: list[tuple[float, str]] = field(default_factory=list)

    def statuses(self) -> dict[str, str]:
        """Return each job's status, with its reason behind a colon where it has one."""
        return {job.spec.name: str(job.status) + (f":{job.reason}" if job.reason else "") for job in self.run.jobs}

    def end(self) -> str:
        """Return the run's status and reason in the same form."""
        return str(self.run.status) + (f":{self.run.reason}" if self.run.reason else "")


def play(
    spec: RunSpec,
    *,
    codes: Mapping[str, Sequence[int]] | None = None,
    lasts: Mapping[str, float] | None = None,
    slots: int = 100,
    asks: Mapping[float, ev.CancelRequested] | None = None,
) -> Played:
    """Play the spec to its end: attempt n of a job ends with `codes[job][n]` (0 where none is given) after `lasts[job]` s."""
    run = Run("r", spec)
    run.apply(ev.RunSubmitted(EPOCH))
    played = Played(run, [ev.RunSubmitted(EPOCH)])
    agenda: list[tuple[float, int, ev.Event | None]] = [(0.0, 0, None)]
    for when, event in (asks or {}).items():
        heapq.heappush(agenda, (when, len(agenda) + 1, event))
    count = 1000
    while not run.is_over:
        assert agenda, f"stuck: {played.statuses()}"
        now, _, due = heapq.heappop(agenda)
        if due is not None and not run.is_over and not _is_stale(run, due):
            run.apply(due)
            played.events.append(due)
        for event in advance(run, at(now), free_slots={"fake": slots - len(run.running)}, draw=lambda: 0.5):
            played.events.append(event)
            count += 1
            if isinstance(event, ev.AttemptStarting):
                played.starts.append((now, event.job))
                code = ([*(codes or {}).get(event.job, ()), 0, 0, 0, 0, 0, 0])[event.number - 1]
                outcome = ev.Outcome(
                    Status.FAILED if code else Status.SUCCESS, code, Reason.EXIT_CODE if code else None
                )
                end = now + (lasts or {}).get(event.job, 1.0)
                heapq.heappush(agenda, (end, count, ev.AttemptEnded(at(end), event.job, event.number, outcome)))
            elif isinstance(event, ev.StopRequested):
                killed = ev.Outcome(Status.FAILED, 143, Reason.KILLED)
                heapq.heappush(agenda, (now, count, ev.AttemptEnded(at(now), event.job, event.number, killed)))
        if (wake := next_wake(run)) is not None:
            heapq.heappush(agenda, ((wake - EPOCH).total_seconds(), count, None))
    return played


def _is_stale(run: Run, event: ev.Event) -> bool:
    """Say whether the end of an attempt was overtaken by its being stopped."""
    if not isinstance(event, ev.AttemptEnded):
        return False
    job = run.job(event.job)
    return job.index not in run.running or job.attempts[-1].number != event.number
