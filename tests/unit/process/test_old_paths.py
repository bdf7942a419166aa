"""The import paths and names that code written for the first implementation uses, its tests included."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any
from unittest import mock

import pytest

import prorch
from prorch.dataclasses.orchestrator import OrchestratorConfig
from prorch.dataclasses.pipeline import PipelineData
from prorch.dataclasses.step import StepData
from prorch.decorators.decorators import register_pipeline
from prorch.exceptions.exceptions import PipelineNameNotDefinedException, StepsNotDefinedException
from prorch.interfaces.repository import IRepository
from prorch.orchestrator import Orchestrator
from prorch.pipeline.pipeline import Pipeline
from prorch.pipeline.services import get_active_pipelines
from prorch.providers.pipeline_provider import PipelineProvider
from prorch.step.step import Step
from prorch.utils.constants import Status

NAMES = {
    "dataclasses.orchestrator": {"OrchestratorConfig", "SavedItem"},
    "dataclasses.pipeline": {"PipelineData"},
    "dataclasses.step": {"StepData"},
    "decorators.decorators": {"PIPELINES", "STEPS", "register_pipeline", "register_step"},
    "exceptions.exceptions": {
        "PipelineNameNotDefinedException",
        "PipelineNotDefinedException",
        "RepositoryNotDefinedException",
        "StepNameNotDefinedException",
        "StepsNotDefinedException",
    },
    "interfaces.repository": {"IRepository"},
    "mixins.on_continue": {"OnContinueMixin"},
    "mixins.on_start": {"OnStartMixin"},
    "orchestrator": {"Orchestrator"},
    "orchestrator.orchestrator": {"Orchestrator"},
    "pipeline.pipeline": {"Pipeline"},
    "pipeline.services": {"PipelineProvider", "get_active_pipelines"},
    "providers.base_provider": {"BaseProvider"},
    "providers.pipeline_provider": {"PipelineProvider"},
    "providers.step_provider": {"StepProvider"},
    "step.services": {"get_step_instance", "search_steps_by_pipeline_uuid"},
    "step.step": {"Step"},
    "utils.base": {"BaseOrchestrator"},
    "utils.constants": {"Metadata", "PIPELINES", "STEPS", "Status"},
    "utils.services": {"get_pipeline_class", "get_step_class"},
}


class Stub(IRepository):
    """Does nothing: its methods are replaced."""

    def get(self, uuid: str) -> Any:
        """Return nothing."""

    def save(self, data: dict[str, Any]) -> Any:
        """Save nothing."""

    def update(self, uuid: str, data: dict[str, Any]) -> Any:
        """Change nothing."""

    def search(self, filter: list[Any]) -> Any:
        """Find nothing."""


class OneStep(Pipeline):
    """A pipeline of a step that nobody registered."""

    name = "OneStep"
    steps = (type("Unregistered", (Step,), {"name": "Unregistered"}),)


def test_every_old_path_has_its_names() -> None:
    """Each module can be imported and has what others import from it; there is no other module."""
    for module, names in NAMES.items():
        assert names <= set(vars(importlib.import_module(f"prorch.{module}"))), module
    packages = {module.split(".")[0] for module in NAMES}
    there = {found.name.removeprefix("prorch.") for found in pkgutil.walk_packages(prorch.__path__, "prorch.")}
    assert there == set(NAMES) | packages


def test_pipeline_is_created_or_loaded() -> None:
    """A new one by `_create_instance`, one with a uuid by `_load_instance`: code of others replaces these."""
    with mock.patch.object(OneStep, "_create_instance") as create, mock.patch.object(OneStep, "_load_instance") as load:
        OneStep(repository_class=Stub)
        create.assert_called_once_with()
        load.assert_not_called()
        OneStep(repository_class=Stub, pipeline_uuid="mocked")
        create.assert_called_once_with()
        load.assert_called_once_with(pipeline_uuid="mocked")


def test_creation_needs_no_more_than_save() -> None:
    """A stub that returns None is enough to make a pipeline, and registration is no condition."""
    with mock.patch.object(Stub, "save") as save:
        assert OneStep(repository_class=Stub).status == Status.CREATED
    assert save.call_count == 2


def test_faulty_classes_can_be_registered_and_not_made() -> None:
    """The decorator takes them; making one raises."""
    nameless = register_pipeline(type("Nameless", (Pipeline,), {"steps": []}))
    stepless = register_pipeline(type("Stepless", (Pipeline,), {"name": "Stepless"}))
    with pytest.raises(PipelineNameNotDefinedException):
        nameless(repository_class=Stub)
    with pytest.raises(StepsNotDefinedException):
        stepless(repository_class=Stub)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ("failed created", (True, False, False)),
        ("failed cancelled finished", (True, True, False)),
        ("created created", (False, False, False)),
        ("finished cancelled", (False, True, False)),
        ("finished finished", (False, False, True)),
        ("", (False, False, False)),
    ],
)
def test_check_action_needed_answers_failed_cancelled_finished(statuses: str, expected: tuple[bool, ...]) -> None:
    """Three truths in this order, called with `steps`; no steps at all are not finished ones."""
    steps = [StepData("u", "n", "p", {}, status) for status in statuses.split()]
    assert OneStep(repository_class=Stub)._check_action_needed(steps=steps) == expected


@pytest.mark.parametrize(
    ("needed", "called", "expected"),
    [
        ((False, False, False), None, True),
        ((True, False, False), "fail", False),
        ((False, True, False), "cancel", False),
        ((False, False, True), "finish", False),
    ],
)
def test_should_continue_does_what_is_needed(needed: tuple[bool, ...], called: str | None, expected: bool) -> None:
    """It asks `_check_action_needed` and calls one of the three, without arguments, or none."""
    pipeline = OneStep(repository_class=Stub)
    with (
        mock.patch.object(OneStep, "_check_action_needed", return_value=needed) as check,
        mock.patch.multiple(OneStep, fail=mock.DEFAULT, cancel=mock.DEFAULT, finish=mock.DEFAULT) as ends,
    ):
        assert pipeline._should_continue(steps=[]) is expected
    check.assert_called_once()
    for name, end in ends.items():
        assert end.mock_calls == ([mock.call()] if name == called else [])


def test_provider_replaced_in_services_is_used() -> None:
    """Both by the function beside it and by the orchestrator."""
    active = [PipelineData("u1", "n1", {}, "mocked"), PipelineData("u2", "n2", {}, "mocked")]
    with mock.patch("prorch.pipeline.services.PipelineProvider.get_active_pipelines", return_value=active) as get:
        assert get_active_pipelines(repository_class=Stub) == active
        get.assert_called_once_with()
    with mock.patch("prorch.pipeline.services.PipelineProvider") as provider:
        provider.return_value.get_active_pipelines.return_value = active
        assert get_active_pipelines(repository_class=Stub) == active
        assert Orchestrator(OrchestratorConfig(repository_class=Stub)).get_active_pipelines() == active


def test_provider_gives_records() -> None:
    """Dicts of the repository become PipelineData, whatever their status; None stays None."""
    record = {"uuid": "u", "name": "n", "metadata": {}, "status": "mocked"}
    with mock.patch.object(Stub, "search", return_value=[record]) as search:
        assert PipelineProvider(repository_class=Stub).get_active_pipelines() == [PipelineData(**record)]
        search.assert_called_once_with(filter=["status", "pending"])
    with mock.patch.object(Stub, "get", side_effect=[record, None]) as get:
        provider = PipelineProvider(repository_class=Stub)
        assert provider.get_pipeline_by_uuid(uuid="u") == PipelineData(**record)
        assert provider.get_pipeline_by_uuid(uuid="u") is None
        get.assert_called_with(uuid="u")
