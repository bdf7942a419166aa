"""A pipeline as its author means it: every keyword typed, the defaults filled in, the names checked.

It still knows where jobs stand in the file, for faults that depend on how it is run; the spec it compiles to does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stretto.core.frozen import frozen
from stretto.core.spec import Need, When
from stretto.definitions.fault import Place
from stretto.definitions.node import Node
from stretto.definitions.pipeline import DEFAULT_STAGES
from stretto.definitions.record import Entries


@frozen
class JobDefinition:
    """A job with the pipeline's defaults filled in; `place` is where its name stands. `needs` None: wait for stages."""

    name: str
    place: Place
    stage: str
    script: tuple[str, ...]
    image: str | None
    needs: tuple[Need, ...] | None
    when: When
    variables: Mapping[str, str]
    before_script: tuple[str, ...]
    after_script: tuple[str, ...]
    working_directory: str | None
    artifacts: tuple[str, ...]
    allow_failure: bool
    retry: int
    timeout_s: float | None


@frozen
class Definition:
    """A pipeline without faults; `file` is its path in the repository. Pipeline variables are in those of the jobs."""

    file: str
    name: str
    stages: tuple[str, ...]
    jobs: tuple[JobDefinition, ...]
    fail_fast: bool
    timeout_s: float | None


def build(file: str, pipeline: Entries) -> Definition:
    """Return the definition that the entries of a faultless file make."""
    defaults: Entries = _value(pipeline, "default", {})
    variables = _variables(pipeline)
    jobs: Entries = pipeline["jobs"].value
    return Definition(
        file=file,
        name=pipeline["name"].value,
        stages=_texts(pipeline, "stages", DEFAULT_STAGES),
        jobs=tuple(
            _job(name, entry.key, entry.value, defaults, variables, _needs(entry.value, jobs))
            for name, entry in jobs.items()
        ),
        fail_fast=_value(pipeline, "fail_fast", False),
        timeout_s=_value(pipeline, "timeout", None),
    )


def _job(
    name: str,
    key: Node,
    own: Entries,
    defaults: Entries,
    variables: Mapping[str, str],
    needs: tuple[Need, ...] | None,
) -> JobDefinition:
    merged = {**defaults, **own}
    return JobDefinition(
        name=name,
        place=Place(key.line, key.column, key.argument),
        stage=own["stage"].value,
        script=_texts(own, "script"),
        image=_value(merged, "image", None),
        needs=needs,
        when=When(_value(own, "when", When.ON_SUCCESS)),
        variables={**variables, **_variables(defaults), **_variables(own)},
        before_script=_texts(merged, "before_script"),
        after_script=_texts(merged, "after_script"),
        working_directory=_value(merged, "working_directory", None),
        artifacts=_texts(_value(merged, "artifacts", {}), "paths"),
        allow_failure=_value(merged, "allow_failure", False),
        retry=_value(merged, "retry", 0),
        timeout_s=_value(merged, "timeout", None),
    )


def _needs(job: Entries, jobs: Entries) -> tuple[Need, ...] | None:
    """Return the needs; one whose job does not exist is optional, or the file would have a fault."""
    if "needs" not in job:
        return None
    needs = [item.value for item in job["needs"].value]
    return tuple(
        Need(need["job"].value, artifacts=_value(need, "artifacts", True))
        for need in needs
        if need["job"].value in jobs
    )


def _value(entries: Entries, name: str, default: Any) -> Any:
    return entries[name].value if name in entries else default


def _texts(entries: Entries, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    return tuple(item.value for item in entries[name].value) if name in entries else default


def _variables(entries: Entries) -> dict[str, str]:
    return {name: entry.value for name, entry in _value(entries, "variables", {}).items()}
