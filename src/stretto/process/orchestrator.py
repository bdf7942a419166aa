"""The orchestrator: carries every pending pipeline of a repository on."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from stretto.process import active
from stretto.process.data import PipelineData
from stretto.process.exception import (
    PassIncompleteException,
    PipelineNotFoundException,
    PipelineNotRegisteredException,
    RepositoryNotDefinedException,
)
from stretto.process.pipeline import LostPipeline, get_pipeline_class
from stretto.process.repository import RepositoryClass
from stretto.process.session import LEASE_S, Opened
from stretto.process.status import Status

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OrchestratorConfig:
    """What an orchestrator works with.

    `lease_s`: where the repository can claim, how long a claim lasts. It is renewed before and after each hook of a step, so
    it must be longer than the longest of them.
    """

    repository_class: RepositoryClass
    lease_s: float = LEASE_S


class Orchestrator:
    """Carries pending pipelines on. Their classes, and those of their steps, must have been imported."""

    def __init__(self, config: OrchestratorConfig) -> None:
        if config.repository_class is None:
            raise RepositoryNotDefinedException("the orchestrator was given no repository class")
        self._repository_class = config.repository_class
        self._lease_s = config.lease_s

    def get_active_pipelines(self) -> list[PipelineData]:
        """Return the records of all pending pipelines, in the repository's order."""
        return active.get_active_pipelines(repository_class=self._repository_class)

    def execute_pipelines(self) -> None:
        """Carry each pending pipeline on by one step, in the repository's order: one pass.

        What a step raises ends its own pipeline only. Raises PassIncompleteException, after the others were carried on, if the
        repository failed for some; PassException if it can't even be searched.
        """
        opened = Opened(self._repository_class)
        errors: dict[str, Exception] = {}
        for data in active.get_active_pipelines(repository_class=opened):
            try:
                self._carry_on(data, opened)
            except PipelineNotFoundException:
                log.info("pipeline deleted during the pass", extra={"uuid": data.uuid})
            except Exception as error:
                log.exception("pipeline not carried on", extra={"uuid": data.uuid})
                errors[data.uuid] = error
        if errors:
            raise PassIncompleteException(errors)

    def _carry_on(self, data: PipelineData, opened: Opened) -> None:
        if data.status != Status.PENDING:
            log.warning("pipeline left alone: it is not pending", extra={"uuid": data.uuid, "status": data.status})
            return
        try:
            pipeline_class = get_pipeline_class(data.name)
        except PipelineNotRegisteredException as error:
            log.error("pipeline failed: no such class", extra={"uuid": data.uuid, "name_of_class": data.name})
            LostPipeline(opened, data).give_up(error)
            return
        pipeline = pipeline_class(repository_class=opened, pipeline_uuid=data.uuid)
        pipeline._lease_s = self._lease_s
        pipeline.start()
