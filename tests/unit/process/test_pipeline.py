"""What a pipeline does pass by pass, over a database of four methods; and the twelve faults of the first implementation."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from stretto.process import (
    ClaimLostException,
    InMemoryRepository,
    OnContinueMixin,
    OnStartMixin,
    Orchestrator,
    OrchestratorConfig,
    PassIncompleteException,
    Pipeline,
    PipelineProvider,
    Reason,
    RepositoryFailedException,
    Step,
    StepProvider,
    explain,
    get_step_instance,
    register_pipeline,
    register_step,
)
from stretto.process.metadata import MARKS
from tests.support.process import Plain

DONE: list[str] = []
"""What the hooks did, in order."""


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    DONE.clear()


def make_step(name: str, **hooks: Any) -> type[Step]:
    """Return a registered step class whose hooks note in DONE that they were called, then do what is given."""

    def noting(hook: str) -> Any:
        def call(self: Step) -> Any:
            DONE.append(f"{name}.{hook}")
            return hooks[hook](self)

        return call

    mixins = [mixin for hook, mixin in (("on_start", OnStartMixin), ("on_continue", OnContinueMixin)) if hook in hooks]
    return register_step(type(name, (*mixins, Step), {"name": name, **{hook: noting(hook) for hook in hooks}}))


def make_pipeline(*steps: type[Step], name: str = "P") -> type[Pipeline]:
    """Return a registered pipeline class of these steps."""
    return register_pipeline(type(name, (Pipeline,), {"name": name, "steps": list(steps)}))


def run_pass(database: Any) -> None:
    """Run one pass of an orchestrator of its own."""
    Orchestrator(OrchestratorConfig(repository_class=database)).execute_pipelines()


def statuses(database: Plain) -> list[str]:
    """Return the statuses of all steps, in order."""
    return [record["status"] for record in database.records("STEP")]


def finish(step: Step) -> None:
    """Finish the step."""
    step.finish()


def nothing(step: Step) -> None:
    """Do nothing."""


def test_pipeline_is_created_with_its_steps(database: Plain) -> None:
    """Pipeline first, then each step in order, all `created`, with a uuid of its own each; no hook is called."""
    pipeline = make_pipeline(make_step("A", on_start=finish), make_step("B", on_start=finish))(database)
    assert database.calls == [("PIPELINE", "save"), ("STEP", "save"), ("STEP", "save")]
    (record,), steps = database.records("PIPELINE"), database.records("STEP")
    assert (record["uuid"], record["name"], record["status"]) == (pipeline.uuid, "P", "created")
    assert [(step["name"], step["pipeline_uuid"], step["metadata"], step["status"]) for step in steps] == [
        ("A", pipeline.uuid, {}, "created"),
        ("B", pipeline.uuid, {}, "created"),
    ]
    assert len({record["uuid"], *(step["uuid"] for step in steps)}) == 3
    assert DONE == []


def test_orchestrator_leaves_created_pipelines(database: Plain) -> None:
    """What nobody has started is not picked up."""
    make_pipeline(make_step("A", on_start=finish))(database)
    run_pass(database)
    assert DONE == []
    assert statuses(database) == ["created"]


def test_pipeline_runs_one_step_per_pass(database: Plain) -> None:
    """`on_start` and `on_continue` come in one pass, the next step in the next; `current_step` is the uuid of the step."""
    steps = [make_step(name, on_start=nothing, on_continue=finish) for name in "ABC"]
    pipeline = make_pipeline(*steps)(database)
    pipeline.start()
    assert DONE == ["A.on_start", "A.on_continue"]
    assert (pipeline.status, statuses(database)) == ("pending", ["finished", "created", "created"])
    assert pipeline.metadata["current_step"] == database.records("STEP")[0]["uuid"]
    run_pass(database)
    assert DONE[2:] == ["B.on_start", "B.on_continue"]
    assert database.records("PIPELINE")[0]["metadata"]["current_step"] == database.records("STEP")[1]["uuid"]


def test_pending_step_is_continued_on_each_pass(database: Plain) -> None:
    """`on_start` once, `on_continue` on each pass until it finishes; metadata of each are found by the next."""

    def count(step: Step) -> None:
        step.metadata["count"] = step.metadata.get("count", 0) + 1
        if step.metadata["count"] == 3:
            step.finish()

    make_pipeline(make_step("A", on_start=nothing, on_continue=count))(database).start()
    for _ in range(4):
        run_pass(database)
    assert ["A.on_start", *["A.on_continue"] * 3] == DONE
    assert database.records("STEP")[0]["metadata"] == {"count": 3}


def test_step_finished_in_on_start_is_not_continued(database: Plain) -> None:
    """`finish()` in `on_start` ends the step there."""
    make_pipeline(make_step("A", on_start=finish, on_continue=nothing))(database).start()
    assert DONE == ["A.on_start"]


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [(Step.fail, "failed", Reason.STEP_FAILED), (Step.cancel, "cancelled", Reason.STEP_CANCELLED)],
)
def test_pipeline_ends_as_its_step_does(database: Plain, end: Any, status: str, reason: Reason) -> None:
    """A step that fails or cancels ends the pipeline in the same pass, with the reason; the next step is never started."""
    pipeline = make_pipeline(make_step("A", on_start=end), make_step("B", on_start=finish))(database)
    pipeline.start()
    run_pass(database)
    assert (pipeline.status, statuses(database)) == (status, [status, "created"])
    found = explain(pipeline.to_dataclass())
    assert found is not None
    assert found.reason == reason
    assert "A " in found.message
    assert DONE == ["A.on_start"]


def test_failed_step_counts_before_cancelled_one(database: Plain) -> None:
    """With both among the steps, the pipeline is failed."""
    pipeline = make_pipeline(*(make_step(name, on_start=finish) for name in "AB"))(database)
    for record, status in zip(database.records("STEP"), ("cancelled", "failed"), strict=True):
        database.change("STEP", record["uuid"], status=status)
    pipeline.start()
    assert pipeline.status == "failed"
    assert DONE == []


def test_async_hooks_are_awaited(database: Plain) -> None:
    """`async def` hooks run to their end before the pass goes on, and what they raise fails the step."""

    @register_step
    class A(OnStartMixin, OnContinueMixin, Step):
        name = "A"

        async def on_start(self) -> None:
            await asyncio.sleep(0)
            self.metadata["begun"] = True

        async def on_continue(self) -> None:
            await asyncio.sleep(0)
            self.finish()

    @register_step
    class B(OnStartMixin, Step):
        name = "B"

        async def on_start(self) -> None:
            await asyncio.sleep(0)
            raise OSError("no route")

    pipeline = make_pipeline(A, B)(database)
    pipeline.start()
    assert (statuses(database), database.records("STEP")[0]["metadata"]) == (["finished", "created"], {"begun": True})
    pipeline.start()
    assert (pipeline.status, statuses(database)) == ("failed", ["finished", "failed"])


async def test_async_hook_within_a_loop_is_left_for_later(database: Plain) -> None:
    """In a thread that runs an event loop the pass says how to do it; nothing is lost, and another thread can."""

    @register_step
    class A(OnStartMixin, Step):
        name = "A"

        async def on_start(self) -> None:
            self.finish()

    make_pipeline(A)(database)
    database.change("PIPELINE", database.records("PIPELINE")[0]["uuid"], status="pending")
    with pytest.raises(PassIncompleteException, match="event loop"):
        run_pass(database)
    assert database.records("PIPELINE")[0]["status"] == "pending"
    await asyncio.to_thread(run_pass, database)
    assert database.records("PIPELINE")[0]["status"] == "finished"


def test_metadata_of_the_creator_is_kept(database: Plain) -> None:
    """What is set between creation and start is on record before the first hook, and steps can read it."""

    def look(step: Step) -> None:
        found = PipelineProvider(database).get_pipeline_by_uuid(step.pipeline_uuid)
        assert found is not None
        step.metadata["seen"] = found.metadata["customer"]
        step.finish()

    pipeline = make_pipeline(make_step("A", on_start=look))(database)
    pipeline.metadata["customer"] = "customer"
    pipeline.start()
    assert database.records("STEP")[0]["metadata"] == {"seen": "customer"}
    assert database.records("PIPELINE")[0]["metadata"]["customer"] == "customer"


def test_ending_from_outside_keeps_what_was_written_meanwhile(database: Plain) -> None:
    """Who loaded a step or pipeline before a pass and ends it after that does not bring old metadata back."""

    def count(step: Step) -> None:
        step.metadata["count"] = step.metadata.get("count", 0) + 1

    pipeline_class = make_pipeline(make_step("A", on_start=nothing, on_continue=count))
    uuid = pipeline_class(database).uuid
    old = pipeline_class(database, pipeline_uuid=uuid)
    old_step = get_step_instance(StepProvider(database).search_steps_by_pipeline_uuid(uuid)[0], database)
    pipeline_class(database, pipeline_uuid=uuid).start()
    old_step.finish()
    old.cancel()
    (step,), (record,) = database.records("STEP"), database.records("PIPELINE")
    assert (step["status"], step["metadata"]["count"]) == ("finished", 1)
    assert (record["status"], record["metadata"]["current_step"]) == ("cancelled", step["uuid"])


def test_step_added_later_runs_last(database: Plain) -> None:
    """A step that is made for a pipeline's uuid comes after those of its class."""
    added = make_step("Added", on_start=finish)
    pipeline = make_pipeline(make_step("A", on_start=finish))(database)
    added(repository_class=database, pipeline_uuid=pipeline.uuid)
    pipeline.start()
    run_pass(database)
    assert DONE == ["A.on_start", "Added.on_start"]
    assert database.records("PIPELINE")[0]["status"] == "finished"


def test_last_step_may_add_another(database: Plain) -> None:
    """A step that the last one adds before it finishes is run before the pipeline is finished."""
    added = make_step("Added", on_start=finish)

    def add(step: Step) -> None:
        added(repository_class=database, pipeline_uuid=step.pipeline_uuid)
        step.finish()

    pipeline = make_pipeline(make_step("A", on_start=add))(database)
    pipeline.start()
    assert pipeline.status == "pending"
    run_pass(database)
    assert database.records("PIPELINE")[0]["status"] == "finished"
    assert DONE == ["A.on_start", "Added.on_start"]


def test_order_of_steps_is_the_pipelines(database: Plain) -> None:
    """A repository that gives the steps in another order changes nothing."""
    pipeline = make_pipeline(*(make_step(name, on_start=finish) for name in "ABC"))(database)
    reverse_searches(database)
    assert [step.name for step in StepProvider(database).search_steps_by_pipeline_uuid(pipeline.uuid)] == [
        "C",
        "B",
        "A",
    ]
    for _ in range(3):
        pipeline.start()
    assert DONE == ["A.on_start", "B.on_start", "C.on_start"]


def reverse_searches(database: Plain) -> None:
    """Let the database answer searches from the last to the first."""
    original = type(database).call

    def call(model: str, method: str, **arguments: Any) -> Any:
        found = original(database, model, method, **arguments)
        return found[::-1] if method == "search" else found

    database.call = call  # type: ignore[method-assign]


def test_repository_is_made_once_per_model_and_pass(database: Plain) -> None:
    """However many pipelines and steps there are, a pass opens each model once."""
    pipeline_class = make_pipeline(*(make_step(name, on_start=nothing) for name in "AB"))
    for _ in range(3):
        pipeline_class(database).start()
    database.opened.clear()
    run_pass(database)
    assert sorted(database.opened) == ["PIPELINE", "STEP"]


def test_unchanged_records_are_not_written(database: Plain) -> None:
    """A pass that changes nothing writes nothing."""
    make_pipeline(make_step("A", on_start=nothing, on_continue=nothing))(database).start()
    database.calls.clear()
    run_pass(database)
    assert {method for _, method in database.calls} <= {"get", "search"}


def test_step_may_be_ended_from_outside(database: Plain) -> None:
    """A pending step loaded elsewhere is finished; the next pass goes on with the next step."""
    make_pipeline(make_step("A", on_start=nothing), make_step("B", on_start=finish))(database).start()
    (waiting, _) = StepProvider(database).search_steps_by_pipeline_uuid(database.records("PIPELINE")[0]["uuid"])
    get_step_instance(waiting, database).finish()
    assert database.records("STEP")[0]["metadata"] == {}
    run_pass(database)
    assert database.records("PIPELINE")[0]["status"] == "finished"


# ------------------------------------------------------------------------------- what the first implementation got wrong


def test_fault_1_metadata_is_not_shared(database: Plain) -> None:
    """Metadata of one pipeline or step, nested ones too, never show in another or in the class."""

    class A(OnStartMixin, Step):
        name = "A"
        metadata = {"list": []}  # what is tested

        def on_start(self) -> None:
            self.metadata["list"].append(self.pipeline_uuid)

    register_step(A)
    pipeline_class = make_pipeline(A)
    first, second = pipeline_class(database), pipeline_class(database)
    first.start()
    assert second.metadata["current_step"] is None
    second.start()
    assert [record["metadata"]["list"] for record in database.records("STEP")] == [[first.uuid], [second.uuid]]
    assert A.metadata == {"list": []}
    assert Pipeline.metadata == {}


def test_fault_2_pipeline_is_pending_before_its_step(database: Plain) -> None:
    """A crash after any write of the first start leaves a pipeline that the orchestrator picks up, or one not yet started."""
    pipeline_class = make_pipeline(make_step("A", on_start=finish))
    for allowed in range(4):
        database = Plain()
        pipeline = pipeline_class(database)
        crash_after(database, allowed)
        with pytest.raises(KeyboardInterrupt):
            pipeline.start()
        crash_after(database, None)
        (record,), (step,) = database.records("PIPELINE"), database.records("STEP")
        assert record["status"] == "pending" or step["status"] == "created", f"after {allowed} writes"
        if record["status"] == "created":
            pipeline.start()
        run_pass(database)
        assert (database.records("PIPELINE")[0]["status"], statuses(database)) == ("finished", ["finished"])


def crash_after(database: Plain, writes: int | None) -> None:
    """Let the process die at the write after so many; None lets it live."""
    left = [writes]

    def before(model: str, method: str, arguments: dict[str, Any]) -> None:
        if method in ("save", "update") and left[0] is not None:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1

    database.before = before


def test_fault_3_two_orchestrators_run_a_step_once() -> None:
    """With a repository that can claim, a pass that comes while another is in a hook leaves that pipeline alone."""

    class Repository(InMemoryRepository):
        pass

    entered, others_passed = threading.Event(), threading.Event()

    def work(step: Step) -> None:
        entered.set()
        assert others_passed.wait(timeout=30)
        step.finish()

    pipeline = make_pipeline(make_step("A", on_start=nothing, on_continue=work))(Repository)
    Repository("PIPELINE").update(pipeline.uuid, {"status": "pending"})
    first = threading.Thread(target=run_pass, args=(Repository,))
    first.start()
    assert entered.wait(timeout=30)
    run_pass(Repository)
    pipeline.start()
    others_passed.set()
    first.join(timeout=30)
    assert DONE == ["A.on_start", "A.on_continue"]
    assert pipeline.status == "created", "who was refused has read nothing"
    run_pass(Repository)
    assert Repository("PIPELINE").get(pipeline.uuid)["status"] == "finished"


def test_claim_that_is_lost_stops_the_pass() -> None:
    """Who comes back from a hook to find its pipeline taken writes nothing more; the new owner has it."""

    class Repository(InMemoryRepository):
        pass

    def lose(step: Step) -> None:
        Repository._database.claims[step.pipeline_uuid] = ("another", float("inf"))
        step.metadata["stale"] = True

    pipeline = make_pipeline(make_step("A", on_start=nothing, on_continue=lose))(Repository)
    with pytest.raises(ClaimLostException):
        pipeline.start()
    (step,) = StepProvider(Repository).search_steps_by_pipeline_uuid(pipeline.uuid)
    assert (step.status, step.metadata) == ("pending", {})
    assert Repository._database.claims[pipeline.uuid][0] == "another"


def test_fault_4_step_that_raises_ends_its_pipeline_only(database: Plain, caplog: pytest.LogCaptureFixture) -> None:
    """It and its pipeline are failed, with the reason on both; the pipelines after it go on in the same pass."""

    def explode(step: Step) -> None:
        step.metadata["before"] = "kept"
        raise ValueError("no disk")

    bad = make_pipeline(make_step("A", on_start=nothing, on_continue=explode), name="Bad")
    good = make_pipeline(make_step("B", on_start=nothing, on_continue=finish), name="Good")
    for pipeline in (bad(database), good(database)):
        database.change("PIPELINE", pipeline.uuid, status="pending")
    with caplog.at_level(logging.ERROR):
        run_pass(database)
    assert [record["status"] for record in database.records("PIPELINE")] == ["failed", "finished"]
    assert statuses(database) == ["failed", "finished"]
    for record in (database.records("PIPELINE")[0], database.records("STEP")[0]):
        assert record["metadata"][MARKS]["reason"] == "step_raised"
        assert "ValueError: no disk" in record["metadata"][MARKS]["message"]
    assert database.records("STEP")[0]["metadata"]["before"] == "kept"
    assert any(record.exc_info for record in caplog.records), "the traceback is in the log"


def test_fault_5_step_that_is_not_registered_is_named(database: Plain) -> None:
    """Its pipeline fails and says which class lacks what."""

    class A(OnStartMixin, Step):
        name = "A"

    pipeline = make_pipeline(A)(database)
    pipeline.start()
    found = explain(pipeline.to_dataclass())
    assert pipeline.status == "failed"
    assert found is not None
    assert found.reason == Reason.STEP_NOT_REGISTERED
    assert "'A'" in found.message


def test_fault_6_cost_of_a_pass_does_not_grow_with_the_steps() -> None:
    """A pass over a pipeline of 200 steps makes as many calls as over one of 3."""
    step = make_step("A", on_start=finish)
    pipeline_class = make_pipeline(step, step, step)
    calls = []
    for steps in ([step] * 3, [step] * 200):
        pipeline_class.steps = steps
        database = Plain()
        pipeline_class(database).start()
        database.calls.clear()
        run_pass(database)
        assert statuses(database)[:3] == ["finished", "finished", "created"]
        calls.append(database.calls)
    assert calls[0] == calls[1]


def test_fault_7_pipeline_is_finished_with_its_last_step(database: Plain) -> None:
    """The pass that finishes the last step finishes the pipeline."""
    pipeline = make_pipeline(make_step("A", on_start=finish))(database)
    pipeline.start()
    assert (pipeline.status, database.records("PIPELINE")[0]["status"]) == ("finished", "finished")


def test_fault_8_metadata_of_on_start_is_kept(database: Plain) -> None:
    """What `on_start` sets is on record, and the next pass finds it, though no status method was called."""

    def remember(step: Step) -> None:
        step.metadata["job"] = 42

    make_pipeline(make_step("A", on_start=remember, on_continue=nothing))(database).start()
    assert database.records("STEP")[0]["metadata"] == {"job": 42}


def test_fault_8_metadata_set_after_finish_is_kept(database: Plain) -> None:
    """So is what a hook sets after it has finished its step."""

    def finish_and_remember(step: Step) -> None:
        step.finish()
        step.metadata["late"] = True

    make_pipeline(make_step("A", on_start=finish_and_remember))(database).start()
    assert database.records("STEP")[0]["metadata"] == {"late": True}


def test_fault_9_cancel_sticks(database: Plain) -> None:
    """A cancelled pipeline stays so: `start()` and passes do nothing, for this instance and any other."""
    pipeline_class = make_pipeline(make_step("A", on_start=nothing, on_continue=nothing))
    pipeline = pipeline_class(database)
    pipeline.start()
    other = pipeline_class(database, pipeline_uuid=pipeline.uuid)
    pipeline_class(database, pipeline_uuid=pipeline.uuid).cancel()
    DONE.clear()
    for again in (pipeline, other):
        database.calls.clear()
        again.start()
        assert database.calls == [("PIPELINE", "get")]
        again.finish()
        assert again.status == "cancelled"
    run_pass(database)
    assert DONE == []
    assert database.records("PIPELINE")[0]["status"] == "cancelled"
    found = explain(other.to_dataclass())
    assert found is not None
    assert found.reason == Reason.REQUESTED


def test_fault_9_pipeline_cancelled_during_a_hook_stays_cancelled(database: Plain) -> None:
    """A cancel from outside that comes while a step is at it is not written over."""

    def be_cancelled(step: Step) -> None:
        database.change("PIPELINE", step.pipeline_uuid, status="cancelled")
        step.finish()

    pipeline = make_pipeline(make_step("A", on_start=be_cancelled))(database)
    pipeline.start()
    assert (pipeline.status, database.records("PIPELINE")[0]["status"]) == ("cancelled", "cancelled")


def test_fault_9_final_step_stays_final(database: Plain, caplog: pytest.LogCaptureFixture) -> None:
    """The first final status of a step holds, and its hooks are not called again."""

    def fail_then_finish(step: Step) -> None:
        step.fail()
        step.finish()

    make_pipeline(make_step("A", on_start=fail_then_finish, on_continue=nothing))(database).start()
    assert statuses(database) == ["failed"]
    assert [record.getMessage() for record in caplog.records] == ["status not changed: it is final"]
    data = StepProvider(database).search_steps_by_pipeline_uuid(database.records("PIPELINE")[0]["uuid"])[0]
    step = get_step_instance(data, database)
    step.start()
    step._continue()
    assert DONE == ["A.on_start"]


@pytest.mark.parametrize("saved", [0, 1, 2, 3])
def test_fault_10_creation_that_was_cut_off_is_completed(database: Plain, saved: int) -> None:
    """With any part of it on record, a pipeline isn't finished: loaded and started, it gets its other steps and runs all."""
    pipeline_class = make_pipeline(*(make_step(name, on_start=finish) for name in "ABC"))
    crash_after(database, 1 + saved)
    if saved < 3:
        with pytest.raises(KeyboardInterrupt):
            pipeline_class(database)
    else:
        pipeline_class(database)
    crash_after(database, None)
    (record,) = database.records("PIPELINE")
    for _ in range(3):
        pipeline_class(database, pipeline_uuid=record["uuid"]).start()
    assert DONE == ["A.on_start", "B.on_start", "C.on_start"]
    assert database.records("PIPELINE")[0]["status"] == "finished"
    assert [step["name"] for step in database.records("STEP")] == ["A", "B", "C"]


@pytest.mark.parametrize("saved", [0, 1, 2])
def test_fault_10_of_records_of_the_first_implementation(database: Plain, saved: int) -> None:
    """A pipeline that another implementation left half made has no plan: its class says what is missing."""
    pipeline_class = make_pipeline(*(make_step(name, on_start=finish) for name in "AB"))
    record = {"uuid": "u", "name": "P", "metadata": {"current_step": None}, "status": "created"}
    database("PIPELINE").save(data=record)
    for name in "AB"[:saved]:
        step = {"uuid": f"u{name}", "name": name, "pipeline_uuid": "u", "metadata": {}, "status": "created"}
        database("STEP").save(data=step)
    for _ in range(2):
        pipeline_class(database, pipeline_uuid="u").start()
    assert DONE == ["A.on_start", "B.on_start"]
    assert database.records("PIPELINE")[0]["status"] == "finished"


def test_fault_10_started_pipeline_that_lost_its_steps_fails(database: Plain) -> None:
    """A pending pipeline without some or all of its steps isn't finished either: it fails and says what is missing."""
    pipeline_class = make_pipeline(*(make_step(name, on_start=finish) for name in "AB"))
    pipeline = pipeline_class(database)
    pipeline.start()
    database.delete("STEP", database.records("STEP")[1]["uuid"])
    run_pass(database)
    (record,) = database.records("PIPELINE")
    assert (record["status"], record["metadata"][MARKS]["reason"]) == ("failed", "steps_missing")
    assert "B" in record["metadata"][MARKS]["message"]


def test_fault_12_step_that_nothing_continues_says_so(database: Plain) -> None:
    """A step without `on_continue` that is still pending says what it waits for; that goes when it is finished."""
    make_pipeline(make_step("A", on_start=nothing))(database).start()
    (step,) = StepProvider(database).search_steps_by_pipeline_uuid(database.records("PIPELINE")[0]["uuid"])
    found = explain(step)
    assert step.status == "pending"
    assert found is not None
    assert found.reason == Reason.NO_ON_CONTINUE
    assert "finish()" in found.message


def test_error_after_finish_fails_the_pipeline(database: Plain) -> None:
    """A step that finishes and then raises stays finished, as that is final; the pipeline is failed with the reason."""

    def finish_and_explode(step: Step) -> None:
        step.finish()
        raise ValueError("late")

    pipeline = make_pipeline(make_step("A", on_start=finish_and_explode), make_step("B", on_start=finish))(database)
    pipeline.start()
    assert (pipeline.status, statuses(database)) == ("failed", ["finished", "created"])
    found = explain(pipeline.to_dataclass())
    assert found is not None
    assert "late" in found.message


def test_repository_that_fails_in_a_hook_is_not_the_steps_fault(database: Plain) -> None:
    """The step isn't failed for it: the pass says what happened, and a later one goes on."""
    pipeline = make_pipeline(make_step("A", on_start=finish))(database)
    updates = [0]

    def fail_third(model: str, method: str, arguments: dict[str, Any]) -> None:
        updates[0] += method == "update"
        if method == "update" and updates[0] == 3:
            raise ConnectionError("gone")

    database.before = fail_third
    with pytest.raises(RepositoryFailedException, match="ConnectionError: gone"):
        pipeline.start()
    assert statuses(database) == ["pending"]
    run_pass(database)
    assert database.records("PIPELINE")[0]["status"] == "finished"
