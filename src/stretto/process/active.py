"""Which pipelines an orchestrator has to carry on. A module of its own, as code of others replaces its names in tests."""

from __future__ import annotations

from stretto.process.data import PipelineData
from stretto.process.provider import PipelineProvider
from stretto.process.repository import RepositoryClass


def get_active_pipelines(repository_class: RepositoryClass) -> list[PipelineData]:
    """Return the records of all pending pipelines, in the repository's order."""
    return PipelineProvider(repository_class=repository_class).get_active_pipelines()
