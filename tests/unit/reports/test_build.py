"""What a report says about a run, over or under way."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given

from stretto.core.spec import RunSpec
from stretto.core.states import FINAL, Status
from stretto.reports.build import build
from stretto.reports.model import JobReport, Report
from tests.unit.reports.histories import SHOP, SHOP_STORY, at, reports, row_of, shop, told, unhurried


def job_of(report: Report, name: str) -> JobReport:
    return next(job for _, job in report.jobs() if job.name == name)


def test_build_tells_the_run_itself() -> None:
    """The run's part joins what the row knows with what the events say."""
    run = shop().run
    assert (run.number, run.id, run.name, run.branch, run.submitted_by) == (12, "01hzy0run", "shop", "main", "ada")
    assert (run.status, run.reason, run.message) == (Status.FAILED, "job_failed", "1 job failed: unit")
    assert (run.created_at, run.started_at, run.ended_at) == (at(0), at(0.2), at(130.8))
    assert (run.queue_s, run.duration_s) == (0.2, 130.6)
    assert run.definition == "pipeline.yml"


def test_build_counts_jobs_by_status() -> None:
    """Every status has its number of jobs, those without jobs 0."""
    counts = shop().counts
    assert set(counts) == set(Status)
    assert {status: number for status, number in counts.items() if number} == {"success": 2, "failed": 2, "skipped": 1}


def test_build_measures_queue_and_duration_of_a_job() -> None:
    """A job's queue time ends with its first attempt; its duration includes the wait between attempts."""
    compile_job, unit = job_of(shop(), "compile"), job_of(shop(), "unit")
    assert (compile_job.queue_s, compile_job.duration_s) == (0.3, 12.0)
    assert (unit.queue_s, unit.duration_s) == (0.1, 118.1)
    assert [(attempt.number, attempt.duration_s, attempt.setup_s) for attempt in unit.attempts] == [
        (1, 60.0, 0.1),
        (2, 57.0, 0.1),
    ]
    assert (unit.exit_code, unit.reason, unit.max_attempts, unit.needs) == (2, "exit_code", 2, ("compile",))


def test_build_gives_a_skipped_job_an_end_but_no_times() -> None:
    """A job that never started has no start, queue time or duration, but says when and why it was skipped."""
    ship = job_of(shop(), "ship")
    assert (ship.status, ship.reason, ship.ended_at) == (Status.SKIPPED, "run_stopped", at(130.7))
    assert (ship.started_at, ship.queue_s, ship.duration_s, ship.attempts) == (None, None, None, ())


def test_build_spans_a_stage_over_its_jobs() -> None:
    """A stage starts with its first job and ends with its last."""
    build_stage, test_stage, deploy = shop().stages
    assert (build_stage.status, build_stage.started_at, build_stage.ended_at) == (Status.FAILED, at(0.5), at(12.5))
    assert (test_stage.started_at, test_stage.ended_at) == (at(0.9), at(130.7))
    assert (deploy.status, deploy.started_at, deploy.ended_at) == (Status.SKIPPED, None, at(130.7))


def test_build_finds_the_critical_path_among_what_ran() -> None:
    """The longest way is told with its length; a job that never started is not on it."""
    assert shop().critical_path.jobs == ("compile", "unit")
    assert shop().critical_path.duration_s == 130.1


def test_build_counts_so_far_while_the_run_is_under_way() -> None:
    """Before the end, durations and queue times run up to now, and nothing has an end."""
    report = shop(events=8, now=10.0)  # compile and docs queued, compile over, docs starting
    assert report.run.duration_s == 9.8
    docs = job_of(report, "docs")
    assert (docs.status, docs.duration_s, docs.ended_at) == (Status.RUNNING, 9.3, None)
    assert docs.attempts[0].setup_s is None
    assert report.stages[0].ended_at is None
    lint = job_of(report, "lint")
    assert (lint.status, lint.queue_s, lint.duration_s) == (Status.PENDING, 9.8, None)


def test_build_tells_of_a_retry_that_waits() -> None:
    """While a retry waits for its back-off, the job says before when it will not start."""
    index = next(i for i, event in enumerate(SHOP_STORY) if type(event).__name__ == "JobRetried")
    unit = job_of(shop(events=index + 1, now=73.0), "unit")
    assert (unit.status, unit.retry_at, len(unit.attempts)) == (Status.PENDING, at(73.6), 1)


def test_build_drops_microseconds_before_it_measures() -> None:
    """Durations are the differences of the times shown, so that a report adds up."""
    run = told(SHOP, SHOP_STORY)
    run.started_at, run.ended_at = at(0.201999), at(1.202001)
    report = build(row_of(run), run, now=at(2))
    assert (report.run.started_at, report.run.ended_at, report.run.duration_s) == (at(0.201), at(1.202), 1.001)


def test_build_takes_a_run_without_jobs() -> None:
    """A run without jobs has stages that are skipped and no critical path."""
    run = told(RunSpec("pipeline", "empty", ("build",), ()), SHOP_STORY[:2])
    report = build(row_of(run), run, now=at(1))
    assert (report.stages[0].status, report.critical_path.jobs, report.critical_path.duration_s) == ("skipped", (), 0)


@unhurried
@given(reports())
def test_build_makes_reports_that_add_up(report: Report) -> None:
    """In any report: every job counted once, ends only where over, no time before another that caused it."""
    jobs = [job for _, job in report.jobs()]
    assert sum(report.counts.values()) == len(jobs)
    assert set(report.critical_path.jobs) <= {job.name for job in jobs if job.started_at is not None}
    for thing in (report.run, *report.stages, *jobs):
        assert thing.ended_at is None or thing.status in FINAL
    for job in jobs:
        assert (job.ended_at is not None) == (job.status in FINAL)
        assert (job.started_at is not None) == bool(job.attempts) == (job.duration_s is not None)
        assert [attempt.number for attempt in job.attempts] == list(range(1, len(job.attempts) + 1))
        assert len(job.attempts) <= job.max_attempts
        if job.started_at and job.ready_at:
            assert job.queue_s == (job.started_at - job.ready_at) / timedelta(seconds=1)
        if job.duration_s is not None:
            assert sum(attempt.duration_s for attempt in job.attempts) <= job.duration_s + 1e-9
