"""Processes: pipelines written as Python classes, kept in a repository, carried on by an orchestrator, one step per pass.

Needs no server and no database: any repository of four methods does. `docs/processes.md` is the guide.
"""

from stretto.process.data import Metadata, PipelineData, SavedItem, StepData
from stretto.process.exception import (
    AsyncStepException,
    ClaimLostException,
    MetadataException,
    NameTakenException,
    PassException,
    PassIncompleteException,
    PipelineNameNotDefinedException,
    PipelineNotDefinedException,
    PipelineNotFoundException,
    PipelineNotRegisteredException,
    ProcessException,
    RepositoryAnswerException,
    RepositoryFailedException,
    RepositoryIncompleteException,
    RepositoryNotDefinedException,
    StepNameNotDefinedException,
    StepNotFoundException,
    StepNotRegisteredException,
    StepsMissingException,
    StepsNotDefinedException,
)
from stretto.process.memory import InMemoryRepository
from stretto.process.metadata import Explanation, explain
from stretto.process.mixin import OnContinueMixin, OnStartMixin
from stretto.process.orchestrator import Orchestrator, OrchestratorConfig
from stretto.process.pipeline import Pipeline, get_pipeline_class, register_pipeline
from stretto.process.provider import PipelineProvider, StepProvider
from stretto.process.repository import IRepository, Repository, RepositoryClass
from stretto.process.status import Reason, Status
from stretto.process.step import Step, get_step_class, get_step_instance, register_step

__all__ = [
    "AsyncStepException",
    "ClaimLostException",
    "Explanation",
    "IRepository",
    "InMemoryRepository",
    "Metadata",
    "MetadataException",
    "NameTakenException",
    "OnContinueMixin",
    "OnStartMixin",
    "Orchestrator",
    "OrchestratorConfig",
    "PassException",
    "PassIncompleteException",
    "Pipeline",
    "PipelineData",
    "PipelineNameNotDefinedException",
    "PipelineNotDefinedException",
    "PipelineNotFoundException",
    "PipelineNotRegisteredException",
    "PipelineProvider",
    "ProcessException",
    "Reason",
    "Repository",
    "RepositoryAnswerException",
    "RepositoryClass",
    "RepositoryFailedException",
    "RepositoryIncompleteException",
    "RepositoryNotDefinedException",
    "SavedItem",
    "Status",
    "Step",
    "StepData",
    "StepNameNotDefinedException",
    "StepNotFoundException",
    "StepNotRegisteredException",
    "StepProvider",
    "StepsMissingException",
    "StepsNotDefinedException",
    "explain",
    "get_pipeline_class",
    "get_step_class",
    "get_step_instance",
    "register_pipeline",
    "register_step",
]
