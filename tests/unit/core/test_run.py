"""What a run refuses: events that can't have happened in its state."""

from __future__ import annotations

import pytest

from stretto.core import events as ev
from stretto.core.errors import TransitionError
from stretto.core.run import Run
from stretto.core.states import FINAL, TRANSITIONS, Status, roll_up
from tests.unit.core.play import EPOCH, job, play, spec

OK = ev.Outcome(Status.SUCCESS, 0)
IMPOSSIBLE: list[tuple[str, ev.Event]] = [
    ("submitted twice", ev.RunSubmitted(EPOCH)),
    ("started twice", ev.RunStarted(EPOCH)),
    ("unknown job", ev.AttemptStarting(EPOCH, "nobody", 1)),
    ("attempt out of turn", ev.AttemptStarting(EPOCH, "a1", 2)),
    ("end of an attempt that never started", ev.AttemptEnded(EPOCH, "a1", 1, OK)),
    ("stop of an attempt that never started", ev.StopRequested(EPOCH, "a1", 1, "timeout")),
    ("retry without a failure", ev.JobRetried(EPOCH, "a1", EPOCH)),
    ("end with jobs left", ev.RunEnded(EPOCH, Status.SUCCESS)),
]


@pytest.mark.parametrize(("what", "event"), IMPOSSIBLE, ids=[what for what, _ in IMPOSSIBLE])
def test_run_refuses_what_cannot_have_happened(what: str, event: ev.Event) -> None:
    """An impossible event raises, and changes nothing."""
    run = Run("r", spec(job("a1")))
    run.apply(ev.RunSubmitted(EPOCH))
    run.apply(ev.RunStarted(EPOCH))
    with pytest.raises(TransitionError):
        run.apply(event)
    assert run.status is Status.RUNNING
    assert run.job("a1").status is Status.PENDING
    assert run.events_applied == 2


def test_run_refuses_everything_after_its_end() -> None:
    """A final run stays as it is."""
    run = play(spec(job("a1"))).run
    with pytest.raises(TransitionError):
        run.apply(ev.AttemptStarting(EPOCH, "a1", 2))
    with pytest.raises(TransitionError):
        run.apply(ev.RunEnded(EPOCH, Status.FAILED))
    assert run.status is Status.SUCCESS


def test_events_survive_json() -> None:
    """Every event of a rich play is the same after JSON, and their fold is the same run."""
    played = play(spec(job("a1"), job("bad", allow_failure=True), job("b1", "b", ["bad"])), codes={"bad": [1]})
    again = Run("r", played.run.spec)
    for event in played.events:
        copy = ev.from_json(ev.KIND_OF[type(event)], event.at, ev.to_json(event))
        assert copy == event
        again.apply(copy)
    assert [(one.status, one.reason) for one in again.jobs] == [(one.status, one.reason) for one in played.run.jobs]


def test_final_statuses_have_no_way_out() -> None:
    """Only final statuses have no successor."""
    assert {status for status, after in TRANSITIONS.items() if not after} == FINAL


@pytest.mark.parametrize(
    ("members", "group"),
    [
        ("", "skipped"),
        ("success success", "success"),
        ("success skipped", "success"),
        ("success failed skipped", "failed"),
        ("success canceled", "canceled"),
        ("skipped skipped", "skipped"),
        ("pending pending", "pending"),
        ("pending queued", "queued"),
        ("running pending", "running"),
        ("success pending", "running"),
        ("failed running", "running"),
        ("waiting success", "waiting"),
    ],
)
def test_roll_up_gives_a_group_the_status_of_its_members(members: str, group: str) -> None:
    """A stage is what its jobs make it."""
    assert roll_up(Status(member) for member in members.split()) == Status(group)
