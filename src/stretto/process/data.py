"""What a repository stores, and what names it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final


@dataclass(frozen=True, slots=True)
class PipelineData:
    """The record of a pipeline; `metadata` is JSON data."""

    uuid: str
    name: str
    metadata: dict[str, Any]
    status: str


@dataclass(frozen=True, slots=True)
class StepData:
    """The record of a step; `metadata` is JSON data."""

    uuid: str
    name: str
    pipeline_uuid: str
    metadata: dict[str, Any]
    status: str


@dataclass(frozen=True, slots=True)
class SavedItem:
    """What `save` returns: the name the database has for the record. Nothing here depends on it."""

    identifier: str | int


class Metadata:
    """The two models a repository is made for, and the tables that hold them."""

    PIPELINES_MODEL: Final = "PIPELINE"
    STEP_MODEL: Final = "STEP"
    TABLE_NAMES: ClassVar[dict[str, str]] = {PIPELINES_MODEL: "pipelines", STEP_MODEL: "pipeline_steps"}
