"""The rules of a run, each as a small play."""

from __future__ import annotations

import pytest

from stretto.core import events as ev
from stretto.core.decide import advance, backoff_s, decide
from stretto.core.run import Run
from stretto.core.spec import RetryPolicy, When
from stretto.core.states import Reason, Status
from tests.unit.core.play import EPOCH, at, job, play, spec


def test_stages_run_in_their_order_and_jobs_of_a_stage_at_once() -> None:
    """Without needs a job waits for every job of every earlier stage, and for nothing else."""
    played = play(spec(job("a1"), job("a2"), job("b1", "b"), job("c1", "c")), lasts={"a1": 1, "a2": 3, "b1": 1})
    assert played.starts == [(0, "a1"), (0, "a2"), (3, "b1"), (4, "c1")]
    assert played.end() == "success"


def test_job_with_needs_starts_before_its_stage_has_its_turn() -> None:
    """A job waits for the jobs that it names, not for their siblings or for the stages before its own."""
    played = play(spec(job("a1"), job("slow"), job("b1", "b", ["a1"]), job("b2", "b", [])), lasts={"slow": 9})
    assert played.starts == [(0, "a1"), (0, "slow"), (0, "b2"), (1, "b1")]


def test_chain_of_needs_in_one_stage_ends_when_its_first_job_fails() -> None:
    """`a -> b -> c` in one stage with a failing `a` skips b and c and ends; it never hangs."""
    played = play(spec(job("a"), job("b", needs=["a"]), job("c", needs=["b"])), codes={"a": [1]})
    assert played.statuses() == {"a": "failed:exit_code", "b": "skipped:run_stopped", "c": "skipped:run_stopped"}
    assert played.end() == "failed:job_failed"


def test_allowed_failure_lets_the_run_go_on_and_end_failed() -> None:
    """The pipeline goes on past an allowed failure, skips only what needs it, and its final status is failed."""
    played = play(
        spec(
            job("lint", allow_failure=True),
            job("fix", needs=["lint"]),
            job("after-fix", needs=["fix"]),
            job("test", "b"),
        ),
        codes={"lint": [3]},
    )
    assert played.statuses() == {
        "lint": "failed:exit_code",
        "fix": "skipped:needs_failed",
        "after-fix": "skipped:needs_failed",
        "test": "success",
    }
    assert played.end() == "failed:allowed_failure"


def test_failure_that_is_not_allowed_stops_the_run_but_lets_siblings_finish() -> None:
    """After a blocking failure nothing new starts; what runs goes on to its own end."""
    played = play(
        spec(job("bad"), job("slow"), job("later", "b"), job("needing", "b", ["slow"])),
        codes={"bad": [1]},
        lasts={"slow": 5},
    )
    assert played.statuses() == {
        "bad": "failed:exit_code",
        "slow": "success",
        "later": "skipped:run_stopped",
        "needing": "skipped:run_stopped",
    }
    assert played.end() == "failed:job_failed"


def test_fail_fast_stops_running_siblings() -> None:
    """With fail_fast the siblings of a failed job are stopped, except those that run always."""
    played = play(
        spec(job("bad"), job("slow"), job("watch", when=When.ALWAYS), fail_fast=True),
        codes={"bad": [1]},
        lasts={"slow": 60, "watch": 5},
    )
    assert played.statuses() == {"bad": "failed:exit_code", "slow": "canceled:run_stopped", "watch": "success"}
    assert played.end() == "failed:job_failed"


def test_when_always_runs_after_a_failure_and_on_failure_only_then() -> None:
    """`always` and `on_failure` jobs keep their place in the order of stages though the run was stopped."""
    jobs = (
        job("test"),
        job("deploy", "b"),
        job("notify", "b", when=When.ON_FAILURE),
        job("clean", "c", when=When.ALWAYS),
    )
    failed = play(spec(*jobs), codes={"test": [1]})
    assert failed.statuses()["deploy"] == "skipped:run_stopped"
    assert failed.starts == [(0, "test"), (1, "notify"), (2, "clean")]
    well = play(spec(*jobs))
    assert well.statuses()["notify"] == "skipped:condition"
    assert well.starts == [(0, "test"), (1, "deploy"), (2, "clean")]
    assert well.end() == "success"


def test_on_failure_with_needs_looks_at_its_needs_only() -> None:
    """A job that runs on failure and names its needs does not care about other jobs."""
    jobs = (job("x", allow_failure=True), job("y"), job("on-y", "b", ["y"], when=When.ON_FAILURE))
    assert play(spec(*jobs), codes={"x": [1]}).statuses()["on-y"] == "skipped:condition"


@pytest.mark.parametrize("codes", [[1], [1, 2]])
def test_retry_gives_further_attempts_until_one_succeeds(codes: list[int]) -> None:
    """A failed job is tried again after its back-off, and its last attempt counts."""
    played = play(spec(job("flaky", retry=RetryPolicy(2, backoff_s=4)), job("next", "b")), codes={"flaky": codes})
    assert played.statuses() == {"flaky": "success", "next": "success"}
    assert len(played.run.job("flaky").attempts) == len(codes) + 1
    assert [start for start, name in played.starts if name == "flaky"] == [0, 4, 11][: len(codes) + 1]


def test_retry_ends_with_the_last_failure() -> None:
    """When no retry is left the job fails with its last exit code."""
    played = play(spec(job("flaky", retry=RetryPolicy(1))), codes={"flaky": [1, 7]})
    assert played.statuses() == {"flaky": "failed:exit_code"}
    assert played.run.job("flaky").exit_code == 7


def test_job_waiting_for_its_retry_is_not_tried_again_once_the_run_is_stopped() -> None:
    """Nothing new starts after a blocking failure, not even a further attempt."""
    played = play(
        spec(job("flaky", retry=RetryPolicy(3, backoff_s=60)), job("bad")),
        codes={"flaky": [5, 5, 5], "bad": [1]},
        lasts={"bad": 10},
    )
    assert played.statuses() == {"flaky": "failed:exit_code", "bad": "failed:exit_code"}
    assert len(played.run.job("flaky").attempts) == 1


@pytest.mark.parametrize(("started", "attempts"), [(True, 1), (False, 2)])
def test_attempt_that_may_still_run_is_not_tried_again(started: bool, attempts: int) -> None:
    """When the engine stays away, an attempt that it never started is tried again, one that it did is not."""
    run = Run("r", spec(job("a1", retry=RetryPolicy(1, backoff_s=0))))
    gone = ev.Outcome(Status.FAILED, reason=Reason.ENGINE_UNAVAILABLE)
    for event in (ev.RunSubmitted(EPOCH), ev.RunStarted(EPOCH), ev.AttemptStarting(EPOCH, "a1", 1)):
        run.apply(event)
    if started:
        run.apply(ev.AttemptStarted(EPOCH, "a1", 1, ev.Handle("fake", "r/a1/1")))
    run.apply(ev.AttemptEnded(EPOCH, "a1", 1, gone))
    advance(run, at(1), free_slots={"fake": 1}, draw=lambda: 0.0)
    assert len(run.job("a1").attempts) == attempts
    assert (run.job("a1").status is Status.FAILED) == started


def test_job_that_exceeds_its_time_limit_fails_with_timeout() -> None:
    """The attempt is stopped at its limit, fails with reason timeout, and that may be retried."""
    played = play(spec(job("slow", timeout_s=3.0)), lasts={"slow": 100})
    assert played.statuses() == {"slow": "failed:timeout"}
    assert played.events[-2].at == at(3)
    retried = play(spec(job("slow", timeout_s=3.0, retry=RetryPolicy(1))), lasts={"slow": 100})
    assert len(retried.run.job("slow").attempts) == 2


def test_run_that_exceeds_its_time_limit_stops_everything() -> None:
    """At the run's limit what runs is stopped, what has not started is skipped, and the run ends with reason timeout."""
    played = play(
        spec(job("slow"), job("later", "b"), job("clean", "c", when=When.ALWAYS), timeout_s=5.0), lasts={"slow": 100}
    )
    assert played.statuses() == {"slow": "failed:timeout", "later": "skipped:timeout", "clean": "skipped:timeout"}
    assert played.end() == "failed:timeout"


def test_cancel_of_a_run_stops_what_runs_and_never_starts_the_rest() -> None:
    """After a cancel nothing starts, not even `always` jobs, and the run ends canceled."""
    played = play(
        spec(job("slow"), job("later", "b"), job("clean", "b", when=When.ALWAYS)),
        lasts={"slow": 100},
        asks={2.0: ev.CancelRequested(at(2), by="me")},
    )
    assert played.statuses() == dict.fromkeys(("slow", "later", "clean"), "canceled:cancel_requested")
    assert played.end() == "canceled:cancel_requested"


def test_cancel_that_comes_before_the_run_was_taken_up_cancels_all_of_it() -> None:
    """A run canceled while it waited for a conductor starts nothing."""
    played = play(spec(job("a1")), asks={0.0: ev.CancelRequested(at(0))}, slots=0)
    assert not played.starts
    assert played.end() == "canceled:cancel_requested"


def test_cancel_of_one_job_leaves_unrelated_jobs_alone() -> None:
    """Canceling a job that may fail skips what needs it and nothing else; the run ends canceled."""
    played = play(
        spec(job("slow", allow_failure=True), job("other"), job("needing", needs=["slow"]), job("next", "b")),
        lasts={"slow": 100},
        asks={2.0: ev.CancelRequested(at(2), job="slow")},
    )
    assert played.statuses() == {
        "slow": "canceled:cancel_requested",
        "other": "success",
        "needing": "skipped:needs_failed",
        "next": "success",
    }
    assert played.end() == "canceled:job_canceled"


def test_cancel_after_everything_succeeded_does_not_undo_it() -> None:
    """A job that succeeds before its stop takes effect is a success, and so is its run."""
    played = play(spec(job("a1")), lasts={"a1": 1}, asks={1.0: ev.CancelRequested(at(1))})
    assert any(isinstance(event, ev.StopRequested) for event in played.events)
    assert played.statuses() == {"a1": "success"}
    assert played.end() == "success"


def test_slots_bound_what_runs_and_the_rest_is_queued_in_order() -> None:
    """No more attempts run than there are slots; waiting jobs are queued and start first come, first served."""
    played = play(spec(*(job(f"j{i}") for i in range(5))), slots=2)
    assert [name for _, name in played.starts] == ["j0", "j1", "j2", "j3", "j4"]
    assert [start for start, _ in played.starts] == [0, 0, 1, 1, 2]
    assert {event.job for event in played.events if isinstance(event, ev.JobQueued)} == {"j2", "j3", "j4"}


def test_run_without_jobs_succeeds() -> None:
    """Empty stages and no jobs are a success."""
    assert play(spec()).end() == "success"


def test_decide_changes_nothing() -> None:
    """Asking twice gives the same answer, and the run is as it was."""
    run = Run("r", spec(job("a1"), job("a2")))
    run.apply(ev.RunSubmitted(EPOCH))
    run.apply(ev.RunStarted(EPOCH))
    first = decide(run, EPOCH, free_slots={"fake": 1}, draw=lambda: 0.0)
    assert first == decide(run, EPOCH, free_slots={"fake": 1}, draw=lambda: 0.0)
    assert [type(event) for event in first] == [ev.AttemptStarting, ev.JobQueued]
    assert not run.running


def test_backoff_doubles_up_to_its_limit_with_jitter() -> None:
    """The wait doubles per retry, stays under its maximum, and is drawn from its upper half."""
    policy = RetryPolicy(9, backoff_s=2, backoff_max_s=30)
    assert [backoff_s(policy, n, 1.0) for n in (1, 2, 3, 4, 5)] == [2, 4, 8, 16, 30]
    assert backoff_s(policy, 1, 0.0) == 1
    assert backoff_s(policy, 500, 1.0) == 30
