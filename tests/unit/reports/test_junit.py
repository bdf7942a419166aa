"""A report as JUnit XML."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given

from stretto.core.states import Reason, Status
from stretto.reports import junit
from stretto.reports.model import Report
from tests.unit.reports.histories import reports, shop, unhurried


def case_of(xml: str, name: str) -> ET.Element:
    return next(case for case in ET.fromstring(xml).iter("testcase") if case.get("name") == name)


def with_job(status: Status, reason: str | None, message: str | None) -> str:
    """Return the XML of a run whose job `compile` ended like this."""
    report = shop()
    job = dataclasses.replace(report.stages[0].jobs[0], status=status, reason=reason, message=message)
    return junit.render(
        dataclasses.replace(report, stages=(dataclasses.replace(report.stages[0], jobs=(job,)), *report.stages[1:]))
    )


def test_junit_tells_the_run() -> None:
    """The document, whole: totals, a suite per stage, a case per job, attempts as its output."""
    assert (
        junit.render(shop())
        == """\
<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="shop #12" tests="5" failures="2" errors="0" skipped="1" time="130.600">
  <testsuite name="build" tests="2" failures="1" errors="0" skipped="0" time="14.300" timestamp="2026-05-01T12:00:00">
    <testcase name="compile" classname="shop.build" time="12.000">
      <system-out>attempt 1: success after 12.0 s</system-out>
    </testcase>
    <testcase name="docs" classname="shop.build" time="2.300">
      <failure message="the script ended with exit code 2" type="exit_code">reason: exit_code
the script ended with exit code 2
exit code: 2
allowed to fail: the run went on</failure>
      <system-out>attempt 1: failed (exit_code) after 2.3 s</system-out>
    </testcase>
  </testsuite>
  <testsuite name="test" tests="2" failures="1" errors="0" skipped="0" time="121.300" timestamp="2026-05-01T12:00:00">
    <testcase name="unit" classname="shop.test" time="118.100">
      <failure message="the script ended with exit code 2" type="exit_code">reason: exit_code
the script ended with exit code 2
exit code: 2</failure>
      <system-out>attempt 1: failed (exit_code) after 1 m 00 s
attempt 2: failed (exit_code) after 57.0 s</system-out>
    </testcase>
    <testcase name="lint" classname="shop.test" time="3.200">
      <system-out>attempt 1: success after 3.2 s</system-out>
    </testcase>
  </testsuite>
  <testsuite name="deploy" tests="1" failures="0" errors="0" skipped="1" time="0.000">
    <testcase name="ship" classname="shop.deploy" time="0.000">
      <skipped message="not started: 'unit' failed" />
    </testcase>
  </testsuite>
</testsuites>
"""
    )


@pytest.mark.parametrize(
    ("status", "reason", "element"),
    [
        (Status.FAILED, Reason.EXIT_CODE, "failure"),
        (Status.FAILED, Reason.TIMEOUT, "failure"),
        (Status.FAILED, Reason.LOST, "error"),
        (Status.FAILED, Reason.IMAGE_PULL, "error"),
        (Status.CANCELED, Reason.CANCEL_REQUESTED, "skipped"),
        (Status.SKIPPED, Reason.CONDITION, "skipped"),
        (Status.RUNNING, None, "skipped"),
    ],
)
def test_junit_tells_failures_of_the_script_from_errors_around_it(status: Status, reason: str, element: str) -> None:
    """A script's failure is a failure, one of what it runs on an error, what has no result is skipped."""
    case = case_of(with_job(status, reason, None), "compile")
    assert {child.tag for child in case} - {"system-out"} == {element}


def test_junit_says_what_is_not_over_or_canceled() -> None:
    """A case without a result says why it has none."""
    running = case_of(with_job(Status.RUNNING, None, None), "compile").find("skipped")
    canceled = case_of(with_job(Status.CANCELED, "cancel_requested", "by ada"), "compile").find("skipped")
    assert running is not None
    assert canceled is not None
    assert (running.get("message"), canceled.get("message")) == ("not over: running", "canceled: by ada")


@unhurried
@given(reports())
def test_junit_is_well_formed_whatever_the_names(report: Report) -> None:
    """Any report gives XML that a parser takes, with as many cases, and as many of each kind, as its totals say."""
    root = ET.fromstring(junit.render(report).encode())
    for group in (root, *root.iter("testsuite")):
        assert group.get("tests") == str(len(list(group.iter("testcase"))))
        for total, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert group.get(total) == str(len(list(group.iter(tag))))
    names = [case.get("name") for case in root.iter("testcase")]
    assert len(names) == sum(report.counts.values())
