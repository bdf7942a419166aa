"""What a run refuses: events that can't have happened in its state."""

from __future__ import annotations

import pytest

from stretto.core import events as ev
from stretto.core.decide import advance
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


# ------------------------------------------------------------------------------------------------------------ being kept


def kept(name: str) -> ev.JobKept:
    return ev.JobKept(EPOCH, name, f"earlier/{name}/2", 1, (ev.Artifact("out", 1, "ab" * 32),))


def test_kept_jobs_count_as_successes_for_all_that_comes_after() -> None:
    """Needs and stages see a kept job as a success; it never starts, and what waits only for kept jobs starts first."""
    run = Run("r", spec(job("a1"), job("a2"), job("b1", "b"), job("c1", "c", needs=["a1"]), job("c2", "c")))
    run.apply(ev.RunSubmitted(EPOCH))
    for name in ("a1", "b1"):
        run.apply(kept(name))
    assert not run.ripe
    run.apply(ev.RunStarted(EPOCH))
    assert [run.jobs[i].spec.name for i in run.ripe] == ["a2", "c1"]
    run.apply(ev.AttemptStarting(EPOCH, "a2", 1))
    run.apply(ev.AttemptEnded(EPOCH, "a2", 1, OK))
    assert [run.jobs[i].spec.name for i in run.ripe] == ["c1", "c2"]
    assert (run.stage_status(0), run.stage_status(1)) == (Status.SUCCESS, Status.SUCCESS)
    assert run.artifacts_key(run.job("a1")).text == "earlier/a1/2"
    assert run.artifacts_key(run.job("a2")).text == "r/a2/1"
    assert [artifact.path for artifact in run.job("a1").artifacts] == ["out"]


def test_run_of_kept_jobs_only_is_a_success() -> None:
    """Nothing is left to do: the run starts and ends."""
    run = Run("r", spec(job("a1"), job("b1", "b")))
    for event in (ev.RunSubmitted(EPOCH), kept("a1"), kept("b1")):
        run.apply(event)
    made = advance(run, EPOCH, free_slots={"fake": 1}, draw=lambda: 0.0)
    assert [type(event) for event in made] == [ev.RunStarted, ev.RunEnded]
    assert run.status is Status.SUCCESS


def test_jobs_are_kept_before_the_start_and_once() -> None:
    """Nothing is kept of a run that was not submitted or has begun, nor twice, nor of a job that it does not have."""
    run = Run("r", spec(job("a1"), job("a2")))
    with pytest.raises(TransitionError):
        run.apply(kept("a1"))
    run.apply(ev.RunSubmitted(EPOCH))
    run.apply(kept("a1"))
    for name in ("a1", "nobody"):
        with pytest.raises(TransitionError):
            run.apply(kept(name))
    run.apply(ev.RunStarted(EPOCH))
    with pytest.raises(TransitionError):
        run.apply(kept("a2"))
    with pytest.raises(TransitionError):
        run.apply(ev.AttemptStarting(EPOCH, "a1", 1))
