"""Runs for tests of reports: one told event by event, and random ones driven through `Run.apply`."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st

from stretto.core import events as ev
from stretto.core.ports import RunRow
from stretto.core.run import JobRun, Run
from stretto.core.spec import ContainerSpec, JobSpec, Need, RetryPolicy, RunSpec, SourceSpec, When
from stretto.core.states import Reason, Status
from stretto.reports.build import build
from stretto.reports.model import Report

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
COMMIT = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
DIGEST = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

unhurried = settings(deadline=None)
"""For properties: other people's load on the machine must not fail a test."""

HOSTILE = (
    "plain",
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)> & 'quoted'",
    "\x1b]0;owned\x07\x1b[2Jcleared",
    "\u202egnp.exe",
    "nul\x00 and \x0b and \ufffe",
    "two\nlines\r\n\tand a tab",
    "lone \ud800 surrogate",
    "漢字テスト名前",
    "👩‍👩‍👧 e\u0301",
    "]]><!-- {{ x }} ${x} %s",
    "a" * 300,
)
"""Texts that a job, a stage, a file or a commit message may hold."""


def at(seconds: float) -> datetime:
    """Return the time this many seconds after the start of the story."""
    return START + timedelta(seconds=seconds)


def row_of(run: Run, *, number: int = 12, created_at: datetime = START) -> RunRow:
    """Return the row that a store would keep of `run`."""
    source = run.spec.source
    return RunRow(
        id=run.id,
        number=number,
        kind=run.spec.kind,
        name=run.spec.name,
        status=run.status,
        reason=run.reason,
        message=run.message,
        repository=source.repository if source else None,
        branch=source.branch if source else None,
        commit=source.commit if source else None,
        commit_message=source.commit_message if source else None,
        created_at=created_at,
        started_at=run.started_at,
        ended_at=run.ended_at,
    )


def told(spec: RunSpec, story: Iterable[ev.Event], *, run_id: str = "01hzy0run") -> Run:
    """Return a run of `spec` to which the events of `story` happened."""
    run = Run(run_id, spec)
    for event in story:
        run.apply(event)
    return run


def attempt(
    job: str, number: int, start: float, end: float, outcome: ev.Outcome, artifacts: tuple[ev.Artifact, ...] = ()
) -> list[ev.Event]:
    """Return the events of one attempt; its driver has it started after a tenth of a second."""
    handle = ev.Handle("docker", f"01hzy0run/{job}/{number}")
    return [
        ev.AttemptStarting(at(start), job, number),
        ev.AttemptStarted(at(start + 0.1), job, number, handle),
        ev.AttemptEnded(at(end), job, number, outcome, artifacts),
    ]


SUCCESS = ev.Outcome(Status.SUCCESS, 0)
EXIT_2 = ev.Outcome(Status.FAILED, 2, Reason.EXIT_CODE, "the script ended with exit code 2")

SHOP = RunSpec(
    kind="pipeline",
    name="shop",
    stages=("build", "test", "deploy"),
    jobs=(
        JobSpec("compile", "build", "docker", container=ContainerSpec("python:3.12"), artifacts=("dist/*",)),
        JobSpec("docs", "build", "docker", container=ContainerSpec("python:3.12"), allow_failure=True),
        JobSpec(
            "unit",
            "test",
            "docker",
            container=ContainerSpec("python:3.12"),
            needs=(Need("compile"),),
            retry=RetryPolicy(max_retries=1),
        ),
        JobSpec("lint", "test", "process", needs=()),
        JobSpec("ship", "deploy", "docker"),
    ),
    source=SourceSpec("https://git.example/shop.git", COMMIT, "Sell more\n\nA longer story.", branch="main"),
    definition="pipeline.yml",
)

SHOP_STORY: list[ev.Event] = [
    ev.RunSubmitted(at(0), by="ada"),
    ev.RunStarted(at(0.2)),
    ev.JobQueued(at(0.2), "compile"),
    ev.JobQueued(at(0.2), "docs"),
    *attempt("compile", 1, 0.5, 12.5, SUCCESS, (ev.Artifact("dist/shop.whl", 123_456, DIGEST),)),
    *attempt("docs", 1, 0.7, 3.0, EXIT_2),
    *attempt("lint", 1, 0.9, 4.1, SUCCESS),
    *attempt("unit", 1, 12.6, 72.6, EXIT_2),
    ev.JobRetried(at(72.6), "unit", at(73.6)),
    *attempt("unit", 2, 73.7, 130.7, EXIT_2),
    ev.JobEnded(at(130.7), "ship", Status.SKIPPED, Reason.RUN_STOPPED, "not started: 'unit' failed"),
    ev.RunEnded(at(130.8), Status.FAILED, Reason.JOB_FAILED, "1 job failed: unit"),
]
"""A run in which `docs` fails as it may, `unit` fails twice, and `ship` is skipped."""


def shop(events: int | None = None, *, run_id: str = "01hzy0run", number: int = 12, now: float = 200.0) -> Report:
    """Return the report on the story's first `events` events (None: all of them)."""
    run = told(SHOP, SHOP_STORY[:events], run_id=run_id)
    return build(row_of(run, number=number), run, now=at(now))


def random_spec(rnd: random.Random) -> RunSpec:
    """Return a small random graph whose texts are hostile."""
    stages = tuple(f"{i} {rnd.choice(HOSTILE)}" for i in range(rnd.randint(1, 4)))
    jobs: list[JobSpec] = []
    for i in range(rnd.randint(0, 8)):
        stage = rnd.randrange(len(stages))
        may_need = [job.name for job in jobs if stages.index(job.stage) <= stage]
        needs = tuple(Need(name) for name in rnd.sample(may_need, rnd.randint(0, min(2, len(may_need)))))
        jobs.append(
            JobSpec(
                name=f"{i} {rnd.choice(HOSTILE)}",
                stage=stages[stage],
                driver=rnd.choice(("docker", "process")),
                container=rnd.choice((None, ContainerSpec(rnd.choice(HOSTILE)))),
                needs=rnd.choice((None, needs)),
                when=rnd.choice(list(When)),
                allow_failure=rnd.random() < 0.3,
                retry=RetryPolicy(max_retries=rnd.randint(0, 2)),
            )
        )
    source = SourceSpec(rnd.choice(HOSTILE), COMMIT, rnd.choice(HOSTILE), branch=rnd.choice((None, "main")))
    return RunSpec("pipeline", rnd.choice(HOSTILE), stages, tuple(jobs), source=rnd.choice((None, source)))


class History:
    """Drives a run by random events that its state allows, until it is over or `steps` are used up."""

    def __init__(self, rnd: random.Random, spec: RunSpec) -> None:
        self.rnd, self.now = rnd, START
        self.run = Run(f"01hzy{rnd.randrange(10**6):06}", spec)

    def drive(self, steps: int) -> None:
        """Submit the run and let up to `steps` further things happen to it."""
        self.run.apply(ev.RunSubmitted(self.now, by="ada"))
        for job in self.run.jobs:
            if self.rnd.random() < 0.15:
                origin = f"01hzyearlier/{job.spec.name}/{self.rnd.randint(1, 3)}"
                self.run.apply(ev.JobKept(self.now, job.spec.name, origin, 7, self._artifacts()))
        for _ in range(steps):
            if self.run.is_over:
                return
            self.now += timedelta(microseconds=self.rnd.randrange(10**9))
            self._step()

    def _step(self) -> None:
        run = self.run
        if run.status is Status.PENDING:
            run.apply(ev.RunStarted(self.now))
            return
        open_jobs = [
            *run.ripe,
            *(i for waiting in run.queued.values() for i in waiting),
            *run.running,
            *run.failed_once,
            *run.backing_off,
        ]
        if not open_jobs:
            status, reason = self.rnd.choice(RUN_ENDS)
            run.apply(ev.RunEnded(self.now, status, reason, self.rnd.choice((None, *HOSTILE))))
            return
        index = self.rnd.choice(open_jobs)
        self._advance(run.jobs[index])

    def _advance(self, job: JobRun) -> None:
        run, rnd, name = self.run, self.rnd, job.spec.name
        if job.index in run.running:
            last = job.attempts[-1]
            if last.started_at is None and rnd.random() < 0.8:
                run.apply(ev.AttemptStarted(self.now, name, last.number, ev.Handle("docker", "k")))
            elif last.stop_reason is None and rnd.random() < 0.2:
                reason = rnd.choice((Reason.TIMEOUT, Reason.CANCEL_REQUESTED, Reason.RUN_STOPPED))
                run.apply(ev.StopRequested(self.now, name, last.number, reason))
            else:
                run.apply(ev.AttemptEnded(self.now, name, last.number, self._outcome(), self._artifacts()))
        elif job.index in run.failed_once:
            run.apply(ev.JobRetried(self.now, name, self.now + timedelta(seconds=1)))
        elif rnd.random() < 0.15:
            status = rnd.choice((Status.SKIPPED, Status.CANCELED))
            run.apply(ev.JobEnded(self.now, name, status, Reason.RUN_STOPPED, rnd.choice(HOSTILE)))
        elif job.index in run.ripe and rnd.random() < 0.5:
            run.apply(ev.JobQueued(self.now, name))
        else:
            run.apply(ev.AttemptStarting(self.now, name, len(job.attempts) + 1))

    def _outcome(self) -> ev.Outcome:
        rnd = self.rnd
        times = (self.now - timedelta(seconds=2), self.now) if rnd.random() < 0.7 else (None, None)
        if rnd.random() < 0.5:
            return ev.Outcome(Status.SUCCESS, 0, started_at=times[0], ended_at=times[1])
        reason = rnd.choice((Reason.EXIT_CODE, Reason.OOM, Reason.LOST, Reason.IMAGE_PULL))
        exit_code = rnd.randint(1, 255) if reason is Reason.EXIT_CODE else None
        return ev.Outcome(Status.FAILED, exit_code, reason, rnd.choice(HOSTILE), times[0], times[1])

    def _artifacts(self) -> tuple[ev.Artifact, ...]:
        rnd = self.rnd
        paths = rnd.sample(HOSTILE, rnd.randint(0, 2))
        return tuple(
            ev.Artifact(path, rnd.randrange(10**7), DIGEST, rnd.random() < 0.5, rnd.choice((None, "../target")))
            for path in paths
        )


RUN_ENDS = (
    (Status.SUCCESS, None),
    (Status.FAILED, Reason.JOB_FAILED),
    (Status.FAILED, Reason.ALLOWED_FAILURE),
    (Status.FAILED, Reason.TIMEOUT),
    (Status.CANCELED, Reason.CANCEL_REQUESTED),
)


@st.composite
def reports(draw: st.DrawFn) -> Report:
    """Draw the report on a random run, over or not."""
    rnd = draw(st.randoms(use_true_random=False))
    history = History(rnd, random_spec(rnd))
    history.drive(rnd.choice((0, 1, 5, 20, 400)))
    return build(row_of(history.run), history.run, now=history.now + timedelta(seconds=1.5))


def worded(text: str) -> Report:
    """Return a report in which every text that comes from outside is `text`."""
    report = shop()
    attempt = dataclasses.replace(report.stages[0].jobs[1].attempts[0], message=text, reason=text)
    artifact = dataclasses.replace(report.stages[0].jobs[0].artifacts[0], path=text, link=text)
    job = dataclasses.replace(
        report.stages[0].jobs[1],
        **dict.fromkeys(("name", "message", "reason", "driver", "image"), text),
        needs=(text,),
        attempts=(attempt,),
        artifacts=(artifact,),
    )
    skipped = dataclasses.replace(report.stages[2].jobs[0], name=f"{text}2", message=text, reason=text)
    outside = ("name", "message", "reason", "repository", "branch", "tag", "definition", "submitted_by", "commit")
    return dataclasses.replace(
        report,
        run=dataclasses.replace(report.run, **dict.fromkeys(outside, text), commit_message=f"{text}\n{text}"),
        stages=(dataclasses.replace(report.stages[0], name=text, jobs=(job, skipped)),),
        critical_path=dataclasses.replace(report.critical_path, jobs=(text, f"{text}2")),
    )


def example() -> Report:
    """Return the report that docs/report.md shows."""
    unit = JobSpec("unit", "test", "docker", container=ContainerSpec("python:3.12"), artifacts=("coverage.xml",))
    spec = RunSpec("pipeline", "shop", ("test",), (unit,), source=SHOP.source, definition="pipeline.yml")
    outcome = ev.Outcome(Status.SUCCESS, 0, started_at=at(0.6), ended_at=at(9.4))
    story: list[ev.Event] = [
        ev.RunSubmitted(at(0), by="ada"),
        ev.RunStarted(at(0.2)),
        *attempt("unit", 1, 0.5, 9.5, outcome, (ev.Artifact("coverage.xml", 12_345, DIGEST),)),
        ev.RunEnded(at(9.6), Status.SUCCESS),
    ]
    run = told(spec, story)
    return build(row_of(run), run, now=at(9.7))
