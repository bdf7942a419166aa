"""The border to repositories that others wrote: what they raise and return is checked here, and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

from stretto.process.data import Metadata, PipelineData, StepData
from stretto.process.exception import (
    MetadataException,
    RepositoryAnswerException,
    RepositoryFailedException,
    RepositoryIncompleteException,
    RepositoryNotDefinedException,
)
from stretto.process.metadata import copy_json
from stretto.process.repository import IRepository, Repository, RepositoryClass
from stretto.process.status import Status

log = logging.getLogger(__name__)

Data = TypeVar("Data", PipelineData, StepData)

_METHODS = ("get", "save", "update", "search")


def open_repository(repository_class: RepositoryClass | None, model: str) -> Repository:
    """Return the repository for a model, having looked that it has its four methods."""
    if repository_class is None:
        raise RepositoryNotDefinedException("no repository class was given", hint="pass repository_class=…")
    repository: Repository = call(repository_class, model)
    lacking = [name for name in _METHODS if not _has(repository, name)]
    if lacking:
        raise RepositoryIncompleteException(f"{type(repository).__name__} lacks the method(s) {', '.join(lacking)}")
    return repository


def _has(repository: object, name: str) -> bool:
    return callable(getattr(repository, name, None)) and getattr(type(repository), name, None) is not getattr(
        IRepository, name
    )


def call(method: Any, *args: object, **kwargs: object) -> Any:
    """Return what a method of the user's repository returns; RepositoryFailedException where it raises."""
    try:
        return method(*args, **kwargs)
    except Exception as error:
        name = getattr(method, "__qualname__", type(method).__name__)
        raise RepositoryFailedException(f"{name} raised {type(error).__name__}: {str(error)[:500]}") from error


class BaseProvider(Generic[Data]):
    """Records of one model: read with their shape checked, written as plain dicts."""

    _model: ClassVar[str]
    _data: type[Data]

    def __init__(self, repository_class: RepositoryClass | None) -> None:
        self._repository = open_repository(repository_class, self._model)
        self._names = tuple(field.name for field in fields(self._data))

    def save(self, data: Data) -> None:
        """Add the record."""
        call(self._repository.save, data=asdict(data))

    def update(self, uuid: str, data: Data) -> None:
        """Replace the record."""
        call(self._repository.update, uuid=uuid, data=asdict(data))

    def get(self, uuid: str) -> Data | None:
        """Return the record, or None."""
        found = call(self._repository.get, uuid=uuid)
        return None if found is None else self._read(found, "get")

    def _search(self, field: str, value: str) -> Sequence[object]:
        found = call(self._repository.search, filter=[field, value])
        if isinstance(found, Sequence) and not isinstance(found, str | bytes):
            return found
        raise RepositoryAnswerException(f"{self._of('search')} returned {found!r:.80}; it must return a list")

    def _read(self, item: object, method: str) -> Data:
        """Return the record that a repository returned; fields beyond ours are left out."""
        if not isinstance(item, Mapping):
            raise RepositoryAnswerException(f"{self._of(method)} returned {item!r:.80} for a record; it must be a dict")
        values: dict[str, Any] = {}
        for name in self._names:
            value = item.get(name)
            if isinstance(value, UUID):
                value = str(value)
            if not isinstance(value, Mapping if name == "metadata" else str):
                uuid = str(item.get("uuid"))[:80]
                raise RepositoryAnswerException(
                    f"{self._of(method)} returned the record {uuid} with {name} {value!r:.80}"
                )
            values[name] = value
        try:
            values["metadata"] = copy_json(values["metadata"])
        except MetadataException as error:
            raise RepositoryAnswerException(
                f"{self._of(method)} returned the record {values['uuid']}, whose {error.message}"
            ) from error
        return self._data(**values)

    def _of(self, method: str) -> str:
        return f"{type(self._repository).__name__}({self._model!r}).{method}"


class PipelineProvider(BaseProvider[PipelineData]):
    """Records of pipelines."""

    _model = Metadata.PIPELINES_MODEL
    _data = PipelineData

    @property
    def repository(self) -> Repository:
        """The user's repository, which may have methods beyond the four."""
        return self._repository

    def get_active_pipelines(self) -> list[PipelineData]:
        """Return the pipelines to carry on, in the repository's order. A record that can't be read is logged and left out."""
        readable = []
        for item in self._search("status", Status.PENDING):
            try:
                readable.append(self._read(item, "search"))
            except RepositoryAnswerException as error:
                log.error("pipeline left alone: its record can't be read", extra={"error": error.message})
        return readable

    def get_pipeline_by_uuid(self, uuid: str) -> PipelineData | None:
        """Return the pipeline's record, or None."""
        return self.get(uuid=uuid)


class StepProvider(BaseProvider[StepData]):
    """Records of steps."""

    _model = Metadata.STEP_MODEL
    _data = StepData

    def search_steps_by_pipeline_uuid(self, pipeline_uuid: str) -> list[StepData]:
        """Return the pipeline's steps, in the repository's order."""
        steps = [self._read(item, "search") for item in self._search("pipeline_uuid", pipeline_uuid)]
        for step in steps:
            if step.pipeline_uuid != pipeline_uuid:
                raise RepositoryAnswerException(
                    f"{self._of('search')} returned step {step.uuid} of another pipeline than {pipeline_uuid}"
                )
        return steps
