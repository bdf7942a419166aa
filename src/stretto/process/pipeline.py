"""A pipeline: steps in order, carried on one per pass; and the registry of pipeline classes.

The order of writes is what makes a crash between any two of them harmless where the repository has no transactions:

* created: the pipeline, with the uuids and names of all its steps, then the steps. Cut off, the rest is saved on `start()`.
* a step begins: the pipeline as pending, then the step as pending and starting, `on_start`, then the step as started.
* a step ends: the step, then the pipeline. Cut off, the next pass concludes the same from the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar
from uuid import uuid4

from stretto.process.data import PipelineData, StepData
from stretto.process.exception import (
    MetadataException,
    PassException,
    PipelineNameNotDefinedException,
    PipelineNotFoundException,
    PipelineNotRegisteredException,
    RepositoryNotDefinedException,
    StepNameNotDefinedException,
    StepNotRegisteredException,
    StepsMissingException,
    StepsNotDefinedException,
)
from stretto.process.metadata import Explanation, copy_json, explain
from stretto.process.plan import find_plan, new_marks
from stretto.process.provider import PipelineProvider
from stretto.process.record import Record, log
from stretto.process.registry import register
from stretto.process.repository import RepositoryClass
from stretto.process.session import Session
from stretto.process.status import FINAL, Reason, Status
from stretto.process.step import Step, get_step_instance

CURRENT_STEP = "current_step"


class PipelineRecord(Record[PipelineData]):
    """A pipeline on record, whether its class is known or not."""

    _provider_class = PipelineProvider

    def to_dataclass(self) -> PipelineData:
        """Return the record as it would be stored now; MetadataException."""
        return PipelineData(self.uuid, self.name, self._stored_metadata(), self.status)

    def _provider(self, session: Session) -> PipelineProvider:
        return session.pipelines

    def _missing(self) -> Exception:
        return PipelineNotFoundException(f"the repository has no pipeline {self.uuid} ({self.name})")


class LostPipeline(PipelineRecord):
    """A pipeline whose class no longer exists."""

    def __init__(self, repository_class: RepositoryClass, data: PipelineData) -> None:
        self._repository_class = repository_class
        self.name = data.name
        self._adopt(data)

    def give_up(self, error: PipelineNotRegisteredException) -> None:
        """End as failed, if it is still pending and nobody else has it; the record and its steps are kept."""
        with self._open() as session, session.claim(self.uuid) as claimed:
            if claimed:
                self._fail_because(Reason.PIPELINE_NOT_REGISTERED, error.message)


class Pipeline(PipelineRecord):
    """Base of pipeline classes, which say their `name` and their `steps` (step classes, in order)."""

    steps: Sequence[type[Step]] = ()

    def __init__(self, repository_class: RepositoryClass, pipeline_uuid: str | None = None) -> None:
        """Create a pipeline and all its steps, or load the one with this uuid; PipelineNotFoundException."""
        if repository_class is None:
            raise RepositoryNotDefinedException(f"{type(self).__name__} was given no repository class")
        self._repository_class = repository_class
        self._validate_pipeline_name()
        self._validate_pipeline_steps()
        if pipeline_uuid is None:
            self._create_instance()
        else:
            self._load_instance(pipeline_uuid=pipeline_uuid)

    def start(self) -> None:
        """Carry the pipeline on by one step, as far as that goes now. What is final stays as it is.

        An exception of a step ends step and pipeline as failed, on record and in the log, and is not raised. Raises
        PassException where nothing could be done or recorded: the next call goes on from what is on record.
        """
        with self._open() as session, session.claim(self.uuid) as claimed:
            if not claimed:
                log.info("pipeline left to another orchestrator", extra={"uuid": self.uuid})
                return
            self._reload()
            if self.status in FINAL:
                return
            try:
                steps = self._stored_steps(session)
                if self._should_continue(steps=steps):
                    step = self._get_current_step_instance(steps)
                    self._carry_on(step, session)
                    if self._may_be_over(steps, step):
                        self._should_continue(steps=self._stored_steps(session))
            except StepNotRegisteredException as error:
                self._fail_because(Reason.STEP_NOT_REGISTERED, error.message)
            except StepsMissingException as error:
                self._fail_because(Reason.STEPS_MISSING, error.message)

    def _reload(self) -> None:
        """Be what is on record now, with what was changed in `metadata` since it was read: that is written at once."""
        read, now = self._read_metadata, copy_json(self.metadata)
        changed = {key: value for key, value in now.items() if key not in read or read[key] != value}
        self._load_instance(pipeline_uuid=self.uuid)
        if changed and self.status not in FINAL:
            self.metadata |= changed
            self._write()

    def _validate_pipeline_name(self) -> None:
        if not self.name:
            raise PipelineNameNotDefinedException(f"pipeline class {type(self).__qualname__} has no name")

    def _validate_pipeline_steps(self) -> None:
        if not self.steps:
            raise StepsNotDefinedException(f"pipeline class {type(self).__qualname__} has no steps")
        given: Sequence[object] = self.steps
        for step_class in given:
            if not (isinstance(step_class, type) and issubclass(step_class, Step)):
                raise StepsNotDefinedException(
                    f"pipeline class {type(self).__qualname__} has {step_class!r:.80} among its steps; steps are step classes"
                )
            if not step_class.name:
                raise StepNameNotDefinedException(f"step class {step_class.__qualname__} has no name")

    def _create_instance(self) -> None:
        self.uuid, self.status = str(uuid4()), Status.CREATED
        self.metadata, self._marks = {CURRENT_STEP: None, **copy_json(self.metadata)}, new_marks(self.steps)
        self._read_metadata = copy_json(self.metadata)
        plan = find_plan(self.uuid, self.status, self._marks, (), self.steps)
        with self._open() as session, session.transaction():
            session.pipelines.save(self.to_dataclass())
            for step in plan.unsaved:
                session.steps.save(step)

    def _load_instance(self, pipeline_uuid: str) -> None:
        with self._open() as session:
            data = session.pipelines.get_pipeline_by_uuid(uuid=pipeline_uuid)
        if data is None:
            raise PipelineNotFoundException(f"the repository has no pipeline {pipeline_uuid!r:.80} ({self.name})")
        if data.name != self.name:
            raise PipelineNotFoundException(f"pipeline {pipeline_uuid} is a {data.name!r:.80}, not a {self.name!r}")
        self._adopt(data)

    def _stored_steps(self, session: Session) -> list[StepData]:
        """Return the records of all steps, in order; those of a creation that was cut off are saved first."""
        found = session.steps.search_steps_by_pipeline_uuid(self.uuid)
        plan = find_plan(self.uuid, self.status, self._marks, found, self.steps)
        with session.transaction():
            for step in plan.unsaved:
                session.steps.save(step)
        return list(plan.steps)

    def _check_action_needed(self, steps: Sequence[StepData]) -> tuple[bool, bool, bool]:
        """Return whether any step failed, whether any was cancelled, and whether there are steps and all are finished."""
        statuses = {step.status for step in steps}
        return Status.FAILED in statuses, Status.CANCELLED in statuses, statuses == {Status.FINISHED}

    def _should_continue(self, steps: Sequence[StepData]) -> bool:
        """Return whether there is a step to carry on; if not, end the pipeline as its steps say."""
        failed, cancelled, finished = self._check_action_needed(steps=steps)
        if failed:
            self._explain_by(steps, Status.FAILED, Reason.STEP_FAILED)
            self.fail()
        elif cancelled:
            self._explain_by(steps, Status.CANCELLED, Reason.STEP_CANCELLED)
            self.cancel()
        elif finished:
            self.finish()
        return not (failed or cancelled or finished)

    def _may_be_over(self, steps: Sequence[StepData], step: Step) -> bool:
        """Return whether the steps, read before `step` was carried on, may be over now: unless it has added some."""
        statuses = {data.status for data in steps if data.uuid != step.uuid} | {step.status}
        return statuses == {Status.FINISHED} or step.status in (Status.FAILED, Status.CANCELLED)

    def _explain_by(self, steps: Sequence[StepData], status: str, reason: Reason) -> None:
        """Take the reason from the first step of that status: its own error, or else that somebody ended it."""
        step = next((step for step in steps if step.status == status), None)
        if step is None or self.status in FINAL:
            return
        why = explain(step) or Explanation(reason, f"step {step.name} {step.uuid} is {status}")
        self._explain(reason if why.reason == Reason.REQUESTED else why.reason, why.message)

    def _get_current_step_instance(self, steps: Sequence[StepData]) -> Step:
        """Return the first step that is not over; StepNotRegisteredException."""
        data = next(step for step in steps if step.status not in FINAL)
        return get_step_instance(data, self._repository_class)

    def _carry_on(self, step: Step, session: Session) -> None:
        """Begin the step or continue it; what it raises ends both it and the pipeline."""
        if self.status != Status.PENDING or self.metadata.get(CURRENT_STEP) != step.uuid:
            self.status = Status.PENDING
            self.metadata[CURRENT_STEP] = step.uuid
            self._write()
            if self.status in FINAL:
                return
        step._session = session
        try:
            step.start()
            step._continue()
        except PassException:
            raise
        except Exception as error:
            reason = Reason.METADATA_NOT_JSON if isinstance(error, MetadataException) else Reason.STEP_RAISED
            message = f"{step} raised {type(error).__name__}: {str(error)[:1000]}"
            log.exception("step raised", extra={"pipeline": self.uuid, "step": step.uuid})
            session.keep()
            with session.transaction():
                step._fail_because(reason, message)
                self._fail_because(reason, message)
        finally:
            step._session = None


PIPELINES: dict[str, type[Pipeline]] = {}

P = TypeVar("P", bound=Pipeline)


def register_pipeline(pipeline_class: type[P]) -> type[P]:
    """Let orchestrators find the class by its `name`; NameTakenException if another class has it."""
    register(pipeline_class, PIPELINES)
    return pipeline_class


def get_pipeline_class(class_name: str) -> type[Pipeline]:
    """Return the class registered under the name; PipelineNotRegisteredException."""
    try:
        return PIPELINES[class_name]
    except KeyError:
        raise PipelineNotRegisteredException(
            f"no pipeline class is registered as {class_name!r}",
            hint="decorate the class with @register_pipeline, and import its module before the orchestrator runs",
        ) from None
