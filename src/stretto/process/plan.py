"""Which steps a pipeline has, and in what order: decided when it is created, on record before the first step is.

Pure: from what is on record to the steps in order and those that are still to be saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from stretto.process.data import StepData
from stretto.process.exception import RepositoryAnswerException, StepsMissingException
from stretto.process.metadata import STEPS
from stretto.process.status import STATUSES, Status
from stretto.process.step import Step, get_step_class, new_step


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of a pipeline in order, of which `unsaved` are not on record yet: its creation was cut off."""

    steps: tuple[StepData, ...]
    unsaved: tuple[StepData, ...] = ()


def new_marks(classes: Sequence[type[Step]]) -> dict[str, Any]:
    """Return the marks of a new pipeline with these steps."""
    return {STEPS: [{"uuid": str(uuid4()), "name": step_class.name} for step_class in classes]}


def find_plan(
    uuid: str, status: str, marks: Mapping[str, Any], found: Sequence[StepData], classes: Sequence[type[Step]]
) -> Plan:
    """Return the pipeline's plan, given what is on record of it and the classes its own class names.

    Steps that somebody added come after those of the plan. Raises StepsMissingException where a pipeline that was started
    lacks steps, StepNotRegisteredException where a step to save has no class.
    """
    for step in found:
        if step.status not in STATUSES:
            raise RepositoryAnswerException(f"step {step.uuid} of pipeline {uuid} has the status {step.status!r:.80}")
    stored = {step.uuid: step for step in found}
    names = _names(uuid, marks) if STEPS in marks else _names_without_plan(status, stored, classes)
    lacking = [step_uuid for step_uuid in names if step_uuid not in stored]
    if status != Status.CREATED and (lacking or not stored):
        lost = ", ".join(names[step_uuid] for step_uuid in lacking) or "all"
        raise StepsMissingException(f"the repository has lost steps of pipeline {uuid}: {lost}")
    by_name = {step_class.name: step_class for step_class in classes}
    unsaved = {
        step_uuid: new_step(by_name.get(names[step_uuid]) or get_step_class(names[step_uuid]), step_uuid, uuid)
        for step_uuid in lacking
    }
    ordered = [unsaved.get(step_uuid) or stored[step_uuid] for step_uuid in names]
    added = [step for step in stored.values() if step.uuid not in names]
    return Plan((*ordered, *added), tuple(unsaved.values()))


def _names(uuid: str, marks: Mapping[str, Any]) -> dict[str, str]:
    """Return the planned steps' names by uuid, in order."""
    try:
        return {entry["uuid"]: entry["name"] for entry in marks[STEPS]}
    except (TypeError, KeyError) as error:
        raise RepositoryAnswerException(f"pipeline {uuid} has a plan of steps that can't be read") from error


def _names_without_plan(status: str, stored: Mapping[str, StepData], classes: Sequence[type[Step]]) -> dict[str, str]:
    """Return the same for a pipeline that another implementation has stored, which may have been cut off in creating it."""
    names = {step.uuid: step.name for step in stored.values()}
    expected = [step_class.name for step_class in classes]
    if status == Status.CREATED and list(names.values()) == expected[: len(names)]:
        names |= {str(uuid4()): name for name in expected[len(names) :]}
    return names
