"""Metadata: JSON data of the user, and beside it, under one key, the marks that this package keeps.

The marks are what four methods without transactions need to be safe against crashes, and why something ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from stretto.process.exception import MetadataException

MARKS: Final = "stretto"
"""The key of stored metadata that is ours."""
STEPS: Final = "steps"
"""Mark of a pipeline: `[{"uuid", "name"}]`, all its steps in order, on record before the first of them is."""
STARTING: Final = "starting"
"""Mark of a step whose `on_start` was begun and has not returned, as far as is on record."""
REASON: Final = "reason"
MESSAGE: Final = "message"

_MAX_DEPTH: Final = 100
"""Deeper than any data meant for people; and what contains itself has no end."""


_IMMUTABLE: Final = frozenset({str, int, bool})


def copy_json(value: object, path: str = "metadata") -> Any:
    """Return a copy of plain dicts, lists, texts, numbers, True, False and None; MetadataException names what is none."""
    return _copy(value, path, 0)


def _copy(value: object, path: str, depth: int) -> Any:
    if value is None or type(value) in _IMMUTABLE:  # by far the most, and what follows takes ten times as long
        return value
    if depth > _MAX_DEPTH:
        raise MetadataException(f"{path[:120]}… is nested more than {_MAX_DEPTH} deep, or contains itself")
    match value:
        case None | bool():
            return value
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case list() | tuple():
            return [_copy(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        case Mapping():
            for key in value:
                if not isinstance(key, str):
                    raise MetadataException(f"{path} has the key {key!r:.80}; keys of JSON are text")
            return {str.__str__(key): _copy(item, f"{path}[{key!r}]", depth + 1) for key, item in value.items()}
    raise MetadataException(
        f"{path} is {value!r:.80} of type {type(value).__name__}, which JSON can't hold",
        hint="keep texts, numbers, lists and dicts in metadata",
    )


def join(metadata: object, marks: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is stored: a copy of the user's metadata, with the marks where there are any."""
    if not isinstance(metadata, Mapping):
        raise MetadataException(f"metadata is {metadata!r:.80}; it must be a dict")
    if MARKS in metadata:
        raise MetadataException(f"metadata has the key {MARKS!r}, which is reserved")
    stored: dict[str, Any] = copy_json(metadata)
    if marks:
        stored[MARKS] = copy_json(marks, MARKS)
    return stored


def split(stored: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return copies of the user's metadata and of the marks; what stands under our key and is no dict counts as no marks."""
    metadata: dict[str, Any] = copy_json(stored)
    marks = metadata.pop(MARKS, {})
    return metadata, marks if isinstance(marks, dict) else {}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why something ended, or waits: one word of `Reason` and a sentence."""

    reason: str
    message: str


class HasMetadata(Protocol):
    """A stored record, PipelineData or StepData."""

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata as stored, marks and all."""


def explain(record: HasMetadata) -> Explanation | None:
    """Return why the record (`to_dataclass()` of a pipeline or step, or one from a provider) is as it is; None if unsaid."""
    marks = split(record.metadata)[1]
    return Explanation(str(marks[REASON]), str(marks.get(MESSAGE, ""))) if REASON in marks else None
