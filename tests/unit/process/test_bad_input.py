"""Classes, repositories and metadata that can't work: each gives its own error, and the other pipelines go on."""

from __future__ import annotations

import datetime
import logging
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from stretto.process import (
    InMemoryRepository,
    IRepository,
    MetadataException,
    NameTakenException,
    OnStartMixin,
    Orchestrator,
    OrchestratorConfig,
    PassIncompleteException,
    Pipeline,
    PipelineNameNotDefinedException,
    PipelineNotDefinedException,
    PipelineNotFoundException,
    PipelineNotRegisteredException,
    PipelineProvider,
    RepositoryAnswerException,
    RepositoryFailedException,
    RepositoryIncompleteException,
    RepositoryNotDefinedException,
    Step,
    StepNameNotDefinedException,
    StepNotFoundException,
    StepNotRegisteredException,
    StepProvider,
    StepsNotDefinedException,
    get_pipeline_class,
    get_step_class,
    get_step_instance,
    register_pipeline,
    register_step,
)
from stretto.process.metadata import MARKS
from stretto.process.pipeline import PIPELINES
from stretto.process.step import STEPS
from tests.support.process import Plain


class Finishing(OnStartMixin, Step):
    """Finishes at once."""

    name = "Finishing"

    def on_start(self) -> None:
        """Finish."""
        self.finish()


class Simple(Pipeline):
    """One step that finishes at once."""

    name = "Simple"
    steps = (Finishing,)


@pytest.fixture(autouse=True)
def _simple(_registry: None) -> None:
    register_step(Finishing)
    register_pipeline(Simple)


def pending(database: Plain, count: int = 1) -> list[str]:
    """Return the uuids of new pending pipelines."""
    uuids = [Simple(database).uuid for _ in range(count)]
    for uuid in uuids:
        database.change("PIPELINE", uuid, status="pending")
    return uuids


def run_pass(database: Any) -> None:
    """Run one pass."""
    Orchestrator(OrchestratorConfig(repository_class=database)).execute_pipelines()


def test_class_without_name_is_refused(database: Plain) -> None:
    """It is registered under nothing, and can't be used; nothing is stored."""
    pipeline_class = register_pipeline(type("Nameless", (Pipeline,), {"steps": [Finishing]}))
    step_class = register_step(type("Nameless", (Step,), {}))
    assert (set(PIPELINES), set(STEPS)) == ({"Simple"}, {"Finishing"})
    with pytest.raises(PipelineNameNotDefinedException, match="Nameless"):
        pipeline_class(database)
    with pytest.raises(StepNameNotDefinedException, match="Nameless"):
        step_class(database, pipeline_uuid="u")
    with pytest.raises(StepNameNotDefinedException, match="Nameless"):
        type("P", (Pipeline,), {"name": "P", "steps": [step_class]})(database)
    assert database.calls == []


@pytest.mark.parametrize("steps", [(), [], [Finishing, "Finishing"], [Finishing, Simple]])
def test_pipeline_without_usable_steps_is_refused(database: Plain, steps: Any) -> None:
    """No steps, or something else among them; nothing is stored."""
    with pytest.raises(StepsNotDefinedException, match="steps"):
        type("P", (Pipeline,), {"name": "P", "steps": steps})(database)
    assert database.calls == []


def test_two_classes_of_one_name_are_refused() -> None:
    """The second says who has the name, and the first keeps it."""
    with pytest.raises(NameTakenException, match=r"test_bad_input\.Simple.*'Simple'"):
        register_pipeline(type("Other", (Pipeline,), {"name": "Simple"}))
    with pytest.raises(NameTakenException, match=r"test_bad_input\.Finishing.*'Finishing'"):
        register_step(type("Other", (Step,), {"name": "Finishing"}))
    assert (get_pipeline_class("Simple"), get_step_class("Finishing")) == (Simple, Finishing)


def test_class_defined_again_takes_its_own_place() -> None:
    """A reloaded module registers its classes again."""
    again = type("Simple", (Pipeline,), {"name": "Simple", "__module__": Simple.__module__})
    assert register_pipeline(again) is again
    assert get_pipeline_class("Simple") is again


def test_hook_without_its_mixin_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A hook that would never be called is named at registration."""
    with caplog.at_level(logging.WARNING):
        register_step(type("Silent", (Step,), {"name": "Silent", "on_start": lambda self: None}))
    (record,) = caplog.records
    assert (record.__dict__["class"], record.__dict__["hook"]) == ("Silent", "on_start")


def test_mixin_without_its_hook_fails_the_step(database: Plain) -> None:
    """Its pipeline is failed, and says what is missing."""
    step = register_step(type("Empty", (OnStartMixin, Step), {"name": "Empty"}))
    pipeline = type("P", (Pipeline,), {"name": "P", "steps": [step]})(database)
    pipeline.start()
    assert pipeline.status == "failed"
    assert "no on_start" in database.records("PIPELINE")[0]["metadata"][MARKS]["message"]


def test_unknown_names_are_named() -> None:
    """Looking up a class that nobody registered says which."""
    with pytest.raises(PipelineNotRegisteredException, match="'Nobody'"):
        get_pipeline_class("Nobody")
    with pytest.raises(StepNotRegisteredException, match="'Nobody'"):
        get_step_class("Nobody")


def test_unknown_uuid_is_named(database: Plain) -> None:
    """So does loading a pipeline that isn't there, or is of another class."""
    other = type("Other", (Pipeline,), {"name": "Other", "steps": [Finishing]})
    with pytest.raises(PipelineNotFoundException, match="'nowhere'"):
        Simple(database, pipeline_uuid="nowhere")
    with pytest.raises(PipelineNotFoundException, match="'Simple'"):
        other(database, pipeline_uuid=Simple(database).uuid)


def test_records_deleted_meanwhile_are_named(database: Plain) -> None:
    """Ending a pipeline or step that is gone by now says so, and can be tried again."""
    pipeline = Simple(database)
    step = get_step_instance(StepProvider(database).search_steps_by_pipeline_uuid(pipeline.uuid)[0], database)
    database.delete("PIPELINE", pipeline.uuid)
    database.delete("STEP", step.uuid)
    for _ in range(2):
        with pytest.raises(PipelineNotFoundException):
            pipeline.cancel()
        with pytest.raises(StepNotFoundException):
            step.cancel()


def test_step_of_no_pipeline_is_refused(database: Plain) -> None:
    """A step needs the uuid of its pipeline, or its record."""
    with pytest.raises(PipelineNotDefinedException):
        Finishing(database)


def test_missing_repository_is_refused() -> None:
    """None instead of a repository class."""
    nothing: Any = None
    for use in (Simple, Finishing, PipelineProvider, lambda none: Orchestrator(OrchestratorConfig(none))):
        with pytest.raises(RepositoryNotDefinedException):
            use(nothing)


def test_repository_that_lacks_methods_is_refused() -> None:
    """All that are missing are named, whether it derives from IRepository or not; nothing is called."""

    class Derived(IRepository):
        def get(self, uuid: str) -> None:
            raise AssertionError

    class Bare:
        def __init__(self, model: str) -> None:
            self.get = self.save = self.update = print

    with pytest.raises(RepositoryIncompleteException, match=r"Derived lacks the method\(s\) save, update, search"):
        Simple(Derived)
    with pytest.raises(RepositoryIncompleteException, match=r"Bare lacks the method\(s\) search"):
        Simple(Bare)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(NotImplementedError, match="save"):
        Derived("PIPELINE").save({})


@pytest.mark.parametrize("method", ["get", "save", "update", "search"])
def test_repository_that_raises_is_named(database: Plain, method: str) -> None:
    """What it raised is in the message and the cause; the pipeline is as it was, and goes on when the repository does."""
    (uuid,) = pending(database)

    def fail(model: str, called: str, arguments: dict[str, Any]) -> None:
        if called == method:
            raise ConnectionError("no route")

    database.before = fail
    with pytest.raises((RepositoryFailedException, PassIncompleteException), match="ConnectionError: no route"):
        Simple(database) if method == "save" else run_pass(database)
    database.before = lambda *_: None
    run_pass(database)
    assert database("PIPELINE").get(uuid)["status"] == "finished"  # type: ignore[index]  # it is there


def test_constructor_that_raises_is_named() -> None:
    """So is a repository that can't be made."""

    def refuse(model: str) -> InMemoryRepository:
        raise PermissionError("no password")

    with pytest.raises(RepositoryFailedException, match="PermissionError: no password") as caught:
        Simple(refuse)
    assert isinstance(caught.value.__cause__, PermissionError)


@pytest.mark.parametrize(
    "answer", [None, 7, "text", b"bytes", {"uuid": "u"}, object()], ids=lambda answer: type(answer).__name__
)
def test_search_that_returns_no_list_is_refused(database: Plain, answer: object) -> None:
    """The pass says what came instead."""
    with (
        mock.patch("tests.support.process.PlainRepository.search", return_value=answer),
        pytest.raises(RepositoryAnswerException, match="search returned"),
    ):
        run_pass(database)


GOOD = {"uuid": "u", "name": "Simple", "metadata": {}, "status": "pending"}


@pytest.mark.parametrize(
    "record",
    [
        None,
        "text",
        {},
        {**GOOD, "uuid": None},
        {**GOOD, "status": 1},
        {**GOOD, "metadata": None},
        {**GOOD, "metadata": "{}"},
        {**GOOD, "metadata": {1: 2}},
        {**GOOD, "metadata": {"at": datetime.date(2026, 1, 1)}},
    ],
    ids=repr,
)
def test_record_of_a_foreign_shape_is_left_alone(
    database: Plain, record: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log, and the pipelines beside it go on."""
    pending(database, 2)
    found = database("PIPELINE").search(["status", "pending"])
    with (
        mock.patch("tests.support.process.PlainRepository.search", autospec=True) as search,
        caplog.at_level(logging.ERROR),
    ):
        steps = {record["pipeline_uuid"]: [record] for record in database.records("STEP")}
        search.side_effect = lambda self, filter: (
            [found[0], record, found[1]] if filter[0] == "status" else steps[filter[1]]
        )
        run_pass(database)
    assert {step["status"] for step in database.records("STEP")} == {"finished"}
    assert "search" in caplog.records[0].__dict__["error"]


def test_uuid_objects_are_understood(database: Plain) -> None:
    """Databases with a type for uuids return objects of it."""
    import uuid

    (text,) = pending(database)
    record = {**database.records("PIPELINE")[0], "uuid": uuid.UUID(text), "created_at": "more than we asked for"}
    with mock.patch("tests.support.process.PlainRepository.get", return_value=record):
        found = PipelineProvider(database).get_pipeline_by_uuid(text)
    assert found is not None
    assert found.uuid == text


def test_steps_of_another_pipeline_are_not_run(database: Plain) -> None:
    """A search that does not filter gives an error, not the steps of somebody else."""
    pending(database, 2)
    with (
        mock.patch(
            "tests.support.process.PlainRepository.search",
            autospec=True,
            side_effect=lambda self, filter: database.records("PIPELINE" if filter[0] == "status" else "STEP"),
        ),
        pytest.raises(PassIncompleteException, match="another pipeline") as caught,
    ):
        run_pass(database)
    assert len(caught.value.errors) == 2
    assert {step["status"] for step in database.records("STEP")} == {"created"}


def test_search_that_ignores_the_status_starts_nothing(database: Plain) -> None:
    """A created pipeline that comes among the pending ones is left alone."""
    Simple(database)
    with mock.patch(
        "tests.support.process.PlainRepository.search", side_effect=lambda filter: database.records("PIPELINE")
    ):
        run_pass(database)
    assert database.records("PIPELINE")[0]["status"] == "created"


@pytest.mark.parametrize(("model", "status"), [("PIPELINE", "mocked"), ("STEP", "mocked")])
def test_unknown_status_is_named(database: Plain, model: str, status: str) -> None:
    """A status of another vocabulary is not guessed at."""
    pipeline = Simple(database)
    database.change(model, database.records(model)[0]["uuid"], status=status)
    with pytest.raises(RepositoryAnswerException, match="'mocked'"):
        pipeline.start()


def loop() -> dict[str, Any]:
    """Return a dict that contains itself."""
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, object()]}, r"metadata\['a'\]\[1\] is <object"),
        ({1: 2}, "metadata has the key 1"),
        ({"a": float("nan")}, r"metadata\['a'\] is nan"),
        ({"a": {1, 2}}, r"metadata\['a'\] is \{1, 2\}"),
        ({"a": b"bytes"}, "type bytes"),
        (loop(), "contains itself"),
        ("text", "must be a dict"),
        ({MARKS: 1}, "reserved"),
    ],
    ids=["object", "key", "nan", "set", "bytes", "loop", "text", "reserved"],
)
def test_metadata_that_are_not_json_fail_the_step(database: Plain, value: Any, message: str) -> None:
    """Set in a hook, with or without `finish()`: the step fails, says where, and keeps the metadata on record."""
    for also_finish in (False, True):

        def spoil(self: Step, also_finish: bool = also_finish) -> None:
            self.metadata = value
            if also_finish:
                self.finish()

        STEPS.pop("Spoiling", None)
        step = register_step(type("Spoiling", (OnStartMixin, Step), {"name": "Spoiling", "on_start": spoil}))
        pipeline = type("P", (Pipeline,), {"name": "P", "steps": [step]})(database)
        pipeline.start()
        (found,) = StepProvider(database).search_steps_by_pipeline_uuid(pipeline.uuid)
        assert (pipeline.status, found.status) == ("failed", "failed")
        assert found.metadata[MARKS]["reason"] == "metadata_not_json"
        assert set(found.metadata) == {MARKS}
        with pytest.raises(MetadataException, match=message):
            raise_again(found.metadata[MARKS]["message"])


def raise_again(message: str) -> None:
    """Raise a message, to be matched."""
    raise MetadataException(message)


def test_metadata_of_a_class_that_are_not_json_are_refused(database: Plain) -> None:
    """Before anything is stored."""
    with pytest.raises(MetadataException, match="type object"):
        type("P", (Pipeline,), {"name": "P", "steps": [Finishing], "metadata": {"a": object()}})(database)
    assert database.calls == []


def test_pipeline_whose_class_is_gone_fails_and_is_kept(database: Plain) -> None:
    """It says which class is missing, keeps its steps as they were, and the others go on."""
    gone, there = pending(database, 2)
    database.change("PIPELINE", gone, name="Removed", metadata={"current_step": None, "mine": 1})
    run_pass(database)
    run_pass(database)
    records = {record["uuid"]: record for record in database.records("PIPELINE")}
    assert (records[gone]["status"], records[there]["status"]) == ("failed", "finished")
    assert records[gone]["metadata"]["mine"] == 1
    assert records[gone]["metadata"][MARKS]["reason"] == "pipeline_not_registered"
    assert "'Removed'" in records[gone]["metadata"][MARKS]["message"]
    assert [step["status"] for step in database.records("STEP") if step["pipeline_uuid"] == gone] == ["created"]


def test_pipeline_deleted_during_the_pass_is_no_error(database: Plain) -> None:
    """The others go on, and nothing is raised."""
    first, _ = pending(database, 2)

    def delete(model: str, method: str, arguments: dict[str, Any]) -> None:
        if method == "search":
            database.delete("PIPELINE", first)

    database.after = delete
    run_pass(database)
    assert [record["status"] for record in database.records("PIPELINE")] == ["finished"]


def test_stand_in_repository_offers_nothing_optional() -> None:
    """An object that has every name, as mocks do, isn't taken for one that can claim; pipelines can be made over it."""
    repository = mock.Mock()
    pipeline = Simple(mock.Mock(return_value=repository))
    assert repository.save.call_count == 2
    assert repository.save.call_args_list[0] == mock.call(
        data={"uuid": pipeline.uuid, "name": "Simple", "metadata": mock.ANY, "status": "created"}
    )
    repository.transaction.assert_not_called()


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"transaction": lambda self: None}, "context manager"),
        (
            {"claim": lambda self, uuid, owner, lease_s: None, "release": lambda self, uuid, owner: None},
            "True or False",
        ),
    ],
    ids=["transaction", "claim"],
)
def test_optional_method_of_a_foreign_shape_is_named(methods: dict[str, Callable[..., Any]], message: str) -> None:
    """A method that only happens to have the name says what it should be."""

    def fill(namespace: dict[str, Any]) -> None:
        namespace.update(methods)

    repository_class = types.new_class("Foreign", (InMemoryRepository,), exec_body=fill)
    with pytest.raises(RepositoryAnswerException, match=message):
        Simple(repository_class).start()
