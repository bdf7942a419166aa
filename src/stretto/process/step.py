"""A step: one part of a pipeline's work, and the registry of step classes."""

from __future__ import annotations

from typing import TypeVar
from uuid import uuid4

from stretto.process.data import StepData
from stretto.process.exception import (
    PipelineNotDefinedException,
    RepositoryNotDefinedException,
    StepNameNotDefinedException,
    StepNotFoundException,
    StepNotRegisteredException,
)
from stretto.process.hook import call_hook
from stretto.process.metadata import STARTING, copy_json
from stretto.process.mixin import OnContinueMixin, OnStartMixin
from stretto.process.provider import StepProvider
from stretto.process.record import Record, log
from stretto.process.registry import register
from stretto.process.repository import RepositoryClass
from stretto.process.session import Session
from stretto.process.status import Reason, Status


class Step(Record[StepData]):
    """Base of step classes, to be used with `OnStartMixin`, `OnContinueMixin` or both.

    Made by its pipeline. `uuid` is the same for ever: use it as the key that keeps outside work from being done twice.
    """

    _provider_class = StepProvider

    pipeline_uuid: str

    def __init__(
        self,
        repository_class: RepositoryClass,
        pipeline_uuid: str | None = None,
        step_data: StepData | None = None,
    ) -> None:
        """Be the step on record as `step_data`, or else add one to the end of the pipeline with this uuid."""
        if repository_class is None:
            raise RepositoryNotDefinedException(f"{type(self).__name__} was given no repository class")
        self._repository_class = repository_class
        if step_data is not None:
            self._load_instance(step_data)
        else:
            self._create_instance(pipeline_uuid)

    def start(self) -> None:
        """Begin the step: `on_start` is called, unless it is on record that it returned.

        That it begins is on record before; a process that dies in between leaves a mark by which the next pass calls it again.
        """
        if self.status != Status.CREATED and STARTING not in self._marks:
            return
        with self._open():
            self.status = Status.PENDING
            if not isinstance(self, OnStartMixin):
                self._write()
                return
            self._marks[STARTING] = True
            self._write()
            if self.status == Status.PENDING:
                call_hook(self.on_start)
                self._marks.pop(STARTING, None)
                self._write()

    def to_dataclass(self) -> StepData:
        """Return the record as it would be stored now; MetadataException."""
        return StepData(self.uuid, self.name, self.pipeline_uuid, self._stored_metadata(), self.status)

    def _continue(self) -> None:
        """Carry a pending step on: `on_continue` is called; a step without it says on record that it waits for others."""
        if self.status != Status.PENDING:
            return
        with self._open():
            if isinstance(self, OnContinueMixin):
                call_hook(self.on_continue)
            else:
                self._explain(
                    Reason.NO_ON_CONTINUE,
                    f"{self} has no on_continue: it is pending until something else calls its finish(), fail() or cancel()",
                )
            self._write()

    def _load_instance(self, step_data: StepData) -> None:
        self.pipeline_uuid = step_data.pipeline_uuid
        self._adopt(step_data)

    def _create_instance(self, pipeline_uuid: str | None) -> None:
        if not pipeline_uuid:
            raise PipelineNotDefinedException(f"{type(self).__name__} was given neither pipeline_uuid nor step_data")
        if not self.name:
            raise StepNameNotDefinedException(f"step class {type(self).__qualname__} has no name")
        self._load_instance(new_step(type(self), str(uuid4()), pipeline_uuid))
        with self._open() as session:
            session.steps.save(self.to_dataclass())

    def _provider(self, session: Session) -> StepProvider:
        return session.steps

    def _missing(self) -> Exception:
        return StepNotFoundException(f"the repository has no step {self.uuid} ({self.name})")


def new_step(step_class: type[Step], uuid: str, pipeline_uuid: str) -> StepData:
    """Return the record of a step that was never started."""
    return StepData(uuid, step_class.name, pipeline_uuid, copy_json(step_class.metadata), Status.CREATED)


STEPS: dict[str, type[Step]] = {}

S = TypeVar("S", bound=Step)


def register_step(step_class: type[S]) -> type[S]:
    """Let pipelines find the class by its `name`; NameTakenException if another class has it."""
    register(step_class, STEPS)
    for hook, mixin in (("on_start", OnStartMixin), ("on_continue", OnContinueMixin)):
        if hasattr(step_class, hook) and not issubclass(step_class, mixin):
            log.warning(
                "hook is never called: its mixin is not inherited", extra={"class": step_class.name, "hook": hook}
            )
    return step_class


def get_step_class(class_name: str) -> type[Step]:
    """Return the class registered under the name; StepNotRegisteredException."""
    try:
        return STEPS[class_name]
    except KeyError:
        raise StepNotRegisteredException(
            f"no step class is registered as {class_name!r}",
            hint="decorate the class with @register_step, and import its module before the orchestrator runs",
        ) from None


def get_step_instance(step_data: StepData, repository_class: RepositoryClass) -> Step:
    """Return the step on record as `step_data`, of the class registered under its name."""
    return get_step_class(step_data.name)(repository_class=repository_class, step_data=step_data)


def search_steps_by_pipeline_uuid(repository_class: RepositoryClass, pipeline_uuid: str) -> list[StepData]:
    """Return the records of the pipeline's steps, in the repository's order."""
    return StepProvider(repository_class).search_steps_by_pipeline_uuid(pipeline_uuid)
