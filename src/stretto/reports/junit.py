"""A report as JUnit XML, as GitLab, Jenkins and the report actions of GitHub read it: a suite per stage, a case per job.

The format has no schema of its own; what is written here is the part that those readers share (testsuites, testsuite, testcase,
failure, error, skipped, system-out). A job whose script failed is a `failure`; one that failed for another reason (lost, no
image, no room …) is an `error`; one that was skipped, canceled or is not over is `skipped`, with the reason as message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree as ET

from stretto.core.states import FINAL, Reason, Status
from stretto.reports import human
from stretto.reports.model import JobReport, Report, StageReport

SCRIPT_REASONS: Final = frozenset({Reason.EXIT_CODE, Reason.TIMEOUT, Reason.OOM, Reason.KILLED})
"""Reasons that lie with what the job runs; the others lie with where it runs."""
NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML 1.0 document may hold, not even escaped (section 2.2, Char)."""


def render(report: Report) -> str:
    """Return the report as an XML document."""
    suites = [_suite(report, stage) for stage in report.stages]
    jobs = [job for _, job in report.jobs()]
    root = ET.Element(
        "testsuites",
        {
            "name": _clean(f"{report.run.name} #{report.run.number}"),
            **_totals(jobs),
            "time": _seconds(report.run.duration_s),
        },
    )
    root.extend(suites)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(report: Report, stage: StageReport) -> ET.Element:
    attributes = {
        "name": _clean(stage.name),
        **_totals(stage.jobs),
        "time": _seconds(sum(job.duration_s or 0 for job in stage.jobs)),
    }
    if stage.started_at is not None:
        attributes["timestamp"] = f"{stage.started_at:%Y-%m-%dT%H:%M:%S}"  # the format knows no zone; this is UTC
    suite = ET.Element("testsuite", attributes)
    suite.extend(_case(report, stage, job) for job in stage.jobs)
    return suite


def _case(report: Report, stage: StageReport, job: JobReport) -> ET.Element:
    case = ET.Element(
        "testcase",
        {
            "name": _clean(job.name),
            "classname": _clean(f"{report.run.name}.{stage.name}"),
            "time": _seconds(job.duration_s),
        },
    )
    if kind := _kind(job):
        result = ET.SubElement(case, kind, {"message": _clean(_message(job))})
        if kind != "skipped":
            result.set("type", _clean(job.reason or job.status))
            result.text = _clean("\n".join(_facts(job)))
    if job.attempts or job.kept_from is not None:
        ET.SubElement(case, "system-out").text = _clean("\n".join(_attempts(job)))
    return case


def _kind(job: JobReport) -> str | None:
    """Return the element that tells how the job ended, None for a success."""
    if job.status is Status.SUCCESS:
        return None
    if job.status is Status.FAILED:
        return "failure" if job.reason in SCRIPT_REASONS else "error"
    return "skipped"


def _message(job: JobReport) -> str:
    if job.status not in FINAL:
        return f"not over: {job.status}"
    told = job.message or job.reason or job.status.value
    return f"{job.status}: {told}" if job.status is Status.CANCELED else told


def _facts(job: JobReport) -> list[str]:
    facts = [f"reason: {job.reason}"]
    if job.message:
        facts.append(job.message)
    if job.exit_code is not None:
        facts.append(f"exit code: {job.exit_code}")
    if job.allow_failure:
        facts.append("allowed to fail: the run went on")
    return facts


def _attempts(job: JobReport) -> list[str]:
    lines = []
    if job.kept_from is not None:
        lines.append(f"not run again: kept from {human.kept(job.kept_from.run, job.kept_from.attempt)}")
    for attempt in job.attempts:
        why = f" ({attempt.reason})" if attempt.reason else ""
        lines.append(f"attempt {attempt.number}: {attempt.status}{why} after {human.duration(attempt.duration_s)}")
    return lines


def _totals(jobs: Sequence[JobReport]) -> dict[str, str]:
    kinds = [_kind(job) for job in jobs]
    return {
        "tests": str(len(jobs)),
        "failures": str(kinds.count("failure")),
        "errors": str(kinds.count("error")),
        "skipped": str(kinds.count("skipped")),
    }


def _seconds(seconds: float | None) -> str:
    return f"{seconds or 0:.3f}"


def _clean(text: str) -> str:
    return NOT_XML.sub("\ufffd", text)
