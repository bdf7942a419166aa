"""Histories of runs: random ones that the core allows, and the rows they must leave."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stretto.core import events as ev
from stretto.core.run import Run
from stretto.core.spec import JobSpec, Need, RetryPolicy, RunSpec, SourceSpec
from stretto.core.states import Reason, Status

BEGIN = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)
TEXTS = (
    None,
    "it failed",
    "schlecht: größer als \N{GREEK SMALL LETTER PI}",
    "bytes \udc80\udcff that are no text",
    "nul \0",
)


@dataclass(frozen=True, slots=True)
class Rows:
    """What a store's tables say of one run, in the words of the core."""

    jobs: list[tuple[Any, ...]]
    attempts: list[tuple[Any, ...]]
    artifacts: list[tuple[Any, ...]]


def simple_spec(*names: str, **fields: Any) -> RunSpec:
    """Return a spec of independent jobs in one stage."""
    return RunSpec(
        **{"kind": "pipeline", "name": "simple", "stages": ("all",), **fields},
        jobs=tuple(JobSpec(name, "all", "fake") for name in names),
    )


def random_spec(chance: random.Random) -> RunSpec:
    """Return a spec of up to twelve jobs in up to three stages, with needs, retries and allowed failures."""
    stages = tuple(f"stage {i}" for i in range(chance.randint(1, 3)))
    jobs: list[JobSpec] = []
    for i in range(chance.randint(1, 12)):
        stage = chance.randrange(len(stages))
        earlier = [job.name for job in jobs if stages.index(job.stage) <= stage]
        needs = None if chance.random() < 0.4 else tuple(Need(n) for n in chance.sample(earlier, min(len(earlier), 2)))
        jobs.append(
            JobSpec(
                f"job {i}/ä'; --",
                stages[stage],
                "fake",
                needs=needs,
                retry=RetryPolicy(chance.randint(0, 2)),
                allow_failure=chance.random() < 0.3,
            )
        )
    source = SourceSpec("https://example.org/r.git", "c" * 40, "Fix it\n\nWell.", branch="main")
    return RunSpec("pipeline", "random", stages, tuple(jobs), source=source)


def random_history(chance: random.Random, run: Run) -> Iterator[ev.Event]:
    """Yield events, each applied to `run` (which was submitted), from its start until it is over."""
    at = BEGIN

    def happen(event: ev.Event) -> ev.Event:
        run.apply(event)
        return event

    for job in run.spec.jobs:
        if chance.random() < 0.1:
            left = (ev.Artifact("kept\udcff", 7, "ef" * 32),) if chance.random() < 0.5 else ()
            yield happen(ev.JobKept(at, job.name, f"earlier/{job.name}/2", 1, left))
    yield happen(ev.RunStarted(at))
    while run.unstarted or run.running:
        at += timedelta(microseconds=chance.randint(0, 10_000_000))
        yield happen(_random_event(chance, run, at))
    yield happen(
        ev.RunEnded(at, chance.choice((Status.SUCCESS, Status.FAILED)), Reason.JOB_FAILED, chance.choice(TEXTS))
    )


def _random_event(chance: random.Random, run: Run, at: datetime) -> ev.Event:
    options: list[ev.Event] = []
    for i in run.ripe:
        name = run.jobs[i].spec.name
        options += [
            ev.JobQueued(at, name),
            ev.JobEnded(at, name, Status.SKIPPED, Reason.CONDITION, chance.choice(TEXTS)),
        ]
    for i in [*run.queued["fake"], *run.backing_off]:
        options.append(ev.AttemptStarting(at, run.jobs[i].spec.name, len(run.jobs[i].attempts) + 1))
    for i in run.failed_once:
        options.append(ev.JobRetried(at, run.jobs[i].spec.name, at + timedelta(seconds=chance.random())))
    for i in run.running:
        options += _of_attempt(chance, run, i, at)
    if chance.random() < 0.1:
        options.append(ev.CancelRequested(at, chance.choice(run.jobs).spec.name, "somebody"))
    return chance.choice(options)


def _of_attempt(chance: random.Random, run: Run, i: int, at: datetime) -> list[ev.Event]:
    job = run.jobs[i]
    name, attempt = job.spec.name, job.attempts[-1]
    found: list[ev.Event] = []
    if attempt.handle is None:
        handle = ev.Handle("fake", run.key(job).text, {"pid": chance.randrange(99), "deep": {"list": [1, None, "x"]}})
        found.append(ev.AttemptStarted(at, name, attempt.number, handle))
    if attempt.stop_reason is None and chance.random() < 0.2:
        found.append(ev.StopRequested(at, name, attempt.number, Reason.TIMEOUT))
    failed = chance.random() < 0.4
    outcome = ev.Outcome(
        Status.FAILED if failed else Status.SUCCESS,
        chance.choice((None, 1, 255)) if failed else 0,
        Reason.EXIT_CODE if failed else None,
        chance.choice(TEXTS) if failed else None,
        started_at=attempt.started_at,
        ended_at=at,
    )
    artifacts = (ev.Artifact("out/ü", 5, "ab" * 32, True), ev.Artifact("link\udcff", 1, "cd" * 32, link="out"))
    found.append(ev.AttemptEnded(at, name, attempt.number, outcome, artifacts if chance.random() < 0.5 else ()))
    return found


def expected_rows(run: Run) -> Rows:
    """Return the rows that a store must hold for the run as it stands."""
    return Rows(
        jobs=[
            (
                job.spec.name,
                job.spec.stage,
                job.status,
                job.reason,
                text(job.message),
                job.exit_code,
                job.started_at,
                job.ended_at,
            )
            for job in run.jobs
        ],
        attempts=[
            (
                job.spec.name,
                attempt.number,
                attempt.status,
                outcome.reason if (outcome := attempt.outcome) else None,
                text(outcome.message) if outcome else None,
                outcome.exit_code if outcome else None,
                attempt.starting_at,
                attempt.started_at,
                attempt.ended_at,
                attempt.handle.key if attempt.handle else None,
            )
            for job in run.jobs
            for attempt in job.attempts
        ],
        artifacts=[
            (job.spec.name, number, text(item.path), item.size_bytes, item.digest, item.executable, item.link)
            for job in run.jobs
            for number, artifacts in [
                (0, () if job.kept is None else job.kept.artifacts),
                *((attempt.number, attempt.artifacts) for attempt in job.attempts),
            ]
            for item in artifacts
        ],
    )


def text(value: str | None) -> str | None:
    """Return the text as a column shows it: NUL and what is no valid Unicode as escapes."""
    return None if value is None else value.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def fold(run_id: str, spec: RunSpec, events: tuple[ev.Event, ...]) -> Run:
    """Return the run that the events make of the spec."""
    run = Run(run_id, spec)
    for event in events:
        run.apply(event)
    return run


def state(run: Run) -> dict[str, Any]:
    """Return all that a run holds, to compare two of them; what is only about writing left out."""
    left_out = {"graph", "_touched", "_run_touched"}
    return {name: value for name, value in vars(run).items() if name not in left_out}
