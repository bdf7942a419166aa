"""When two runs came to the same result."""

from __future__ import annotations

import dataclasses

from hypothesis import given

from stretto.core import events as ev
from stretto.core.states import Reason, Status
from stretto.reports.build import build
from stretto.reports.compare import same_result
from stretto.reports.model import Report
from tests.unit.reports.histories import SHOP, SHOP_STORY, SUCCESS, at, attempt, reports, row_of, shop, told, unhurried

LOST = ev.Outcome(Status.FAILED, None, Reason.LOST, "the attempt is gone")


def report_of(story: list[ev.Event]) -> Report:
    run = told(SHOP, story)
    return build(row_of(run), run, now=at(300))


@unhurried
@given(reports())
def test_same_result_finds_a_report_equal_to_itself(report: Report) -> None:
    """A report differs in nothing from itself."""
    assert same_result(report, report) == []


def test_same_result_passes_over_ids_and_times() -> None:
    """Another run of another number, at another time, with the same result is the same."""
    late = [dataclasses.replace(event, at=event.at.replace(hour=20)) for event in SHOP_STORY]
    run = told(SHOP, late, run_id="01other")
    other = build(row_of(run, number=99), run, now=at(90_000))
    assert other != shop()
    assert same_result(shop(), other) == []


def test_same_result_passes_over_an_attempt_cut_by_a_crash() -> None:
    """A lost attempt that another followed is no difference; one that was the last is."""
    unit = SHOP_STORY.index(ev.AttemptStarting(at(12.6), "unit", 1))
    before, after = SHOP_STORY[:unit], SHOP_STORY[-2:]
    once = attempt("unit", 1, 12.6, 20, SUCCESS)
    cut = attempt("unit", 1, 12.6, 20, LOST)
    retried = [ev.JobRetried(at(20), "unit", at(21))]
    undisturbed = report_of([*before, *once, *after])
    assert (
        same_result(undisturbed, report_of([*before, *cut, *retried, *attempt("unit", 2, 22, 30, SUCCESS), *after]))
        == []
    )
    ended_lost = report_of([*before, *cut, *retried, *attempt("unit", 2, 22, 30, LOST), *after])
    assert any("job 'unit': status" in difference for difference in same_result(undisturbed, ended_lost))


def test_same_result_tells_each_difference() -> None:
    """Status, attempts, artifacts and missing jobs are told with both sides."""
    report = shop()
    first, *rest = report.stages[0].jobs
    changed = dataclasses.replace(first, exit_code=3, artifacts=(), attempts=())
    stage = dataclasses.replace(report.stages[0], jobs=(changed, *rest))
    gone = dataclasses.replace(report.stages[2], jobs=())
    other = dataclasses.replace(
        report,
        run=dataclasses.replace(report.run, status=Status.CANCELED),
        stages=(stage, report.stages[1], gone),
    )
    differences = same_result(report, other)
    assert "run: status is 'failed' in the first, 'canceled' in the second" in differences
    assert {text.split(" is ")[0] for text in differences} >= {
        "job 'compile': exit_code",
        "job 'compile': artifacts",
        "job 'compile': attempts",
    }
    assert "job 'ship': only in the first run" in differences
    assert "job 'ship': only in the second run" in same_result(other, report)
