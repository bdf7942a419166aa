"""What reports say of a run that does another one again, and of the jobs that it kept."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from stretto.core import events as ev
from stretto.core.run import Run
from stretto.core.spec import JobSpec, RunSpec
from stretto.core.states import Status
from stretto.reports import html, junit, text
from stretto.reports.build import build
from stretto.reports.model import Kept, Report, from_json, to_json
from stretto.reports.terminal import Style
from tests.unit.reports.histories import at, row_of

SPEC = RunSpec("pipeline", "shop", ("all",), tuple(JobSpec(name, "all", "docker") for name in ("unit", "lint")))
LEFT = ev.Artifact("coverage.xml", 12, "ab" * 32)


@pytest.fixture
def report() -> Report:
    """The report on run 2, which does run 1 again: `unit` is kept of its second attempt there, `lint` ran."""
    run = Run("01hzyagain", SPEC)
    for event in (
        ev.RunSubmitted(at(0), by="ada"),
        ev.JobKept(at(0), "unit", "01hzyfirst/unit/2", 1, (LEFT,)),
        ev.RunStarted(at(1)),
        ev.AttemptStarting(at(1), "lint", 1),
        ev.AttemptEnded(at(3), "lint", 1, ev.Outcome(Status.SUCCESS, 0)),
        ev.RunEnded(at(3), Status.SUCCESS),
    ):
        run.apply(event)
    return build(replace(row_of(run), number=2, retry_of=1), run, now=at(4))


def test_report_says_where_a_kept_job_is_from(report: Report) -> None:
    """A kept job is a success without reason, attempts or times of its own, with its artifacts and where they are from."""
    unit, lint = report.stages[0].jobs
    assert (unit.status, unit.reason, unit.attempts, unit.duration_s) == (Status.SUCCESS, None, (), None)
    assert (unit.kept_from, unit.artifacts) == (Kept(1, "01hzyfirst", 2), (LEFT,))
    assert (lint.kept_from, report.run.retry_of) == (None, 1)
    assert (report.stages[0].status, report.counts[Status.SUCCESS]) == (Status.SUCCESS, 2)
    assert report.critical_path.jobs == ("lint",)


def test_documents_of_earlier_versions_are_read(report: Report) -> None:
    """A document without the keys that were added is read as one in which nothing was done again."""
    data = json.loads(json.dumps(to_json(report)))
    del data["run"]["retry_of"]
    for job in data["stages"][0]["jobs"]:
        del job["kept_from"]
    old = from_json(data)
    assert (old.run.retry_of, old.stages[0].jobs[0].kept_from) == (None, None)


def test_texts_say_where_a_kept_job_is_from(report: Report) -> None:
    """The run's text names the run that it does again and marks what was kept; the job's text names the attempt."""
    style = Style(columns=120)
    whole = text.run(report, style)
    assert "retry of" in whole
    assert "kept from 1" in next(line for line in whole.splitlines() if " unit " in line)
    job = text.job(report, "unit", style)
    assert "run 1, attempt 2" in job
    assert "stretto logs 2 unit" in job


def test_page_and_junit_say_where_a_kept_job_is_from(report: Report) -> None:
    """The page shows it in the timeline and the details; JUnit readers see a test that passed, and why it took no time."""
    page = html.render(report)
    assert page.count("run 1, attempt 2") == 2
    assert "Retry of" in page
    case = ET.fromstring(junit.render(report)).find(".//testcase[@name='unit']")
    assert case is not None
    assert [child.tag for child in case] == ["system-out"]
    assert case[0].text == "not run again: kept from run 1, attempt 2"
