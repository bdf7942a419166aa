"""Turns a definition into the spec that is run. Pure: the same definition and arguments give the same spec."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from stretto.core.spec import ContainerSpec, JobSpec, Need, RetryPolicy, RunSpec, Script, SourceSpec
from stretto.definitions.definition import Definition, JobDefinition
from stretto.definitions.fault import Faults

CONTAINER_DRIVERS = frozenset({"docker"})
"""Drivers whose jobs need an image; the others run on the host as it is."""


def compile_pipeline(
    definition: Definition,
    *,
    driver: str,
    variables: Mapping[str, str] | None = None,
    source: SourceSpec | None = None,
) -> RunSpec:
    """Return the run's spec, its jobs in the order of the file.

    `variables` (of `--var`) outrank those of the file. DefinitionError if `driver` runs containers and a job has no image.
    """
    if driver in CONTAINER_DRIVERS:
        _check_images(definition)
    return RunSpec(
        kind="pipeline",
        name=definition.name,
        stages=definition.stages,
        jobs=tuple(_job(job, driver, variables or {}) for job in definition.jobs),
        fail_fast=definition.fail_fast,
        timeout_s=definition.timeout_s,
        source=source,
        definition=definition.file,
    )


def _check_images(definition: Definition) -> None:
    faults = Faults()
    for job in definition.jobs:
        if job.image is None:
            hint = "set default.image for all jobs, or use the driver process"
            faults.add(job.place, "missing-image", f"job {job.name!r} has no 'image'", hint)
    if faults:
        raise faults.error(definition.file)


def _job(job: JobDefinition, driver: str, variables: Mapping[str, str]) -> JobSpec:
    in_container = driver in CONTAINER_DRIVERS and job.image is not None
    return JobSpec(
        name=job.name,
        stage=job.stage,
        driver=driver,
        script=Script(main=job.script, before=job.before_script, after=job.after_script),
        container=ContainerSpec(job.image) if in_container and job.image else None,
        needs=None if job.needs is None else tuple(Need(need.job, need.artifacts) for need in job.needs),
        when=job.when,
        allow_failure=job.allow_failure,
        retry=RetryPolicy(max_retries=job.retry),
        timeout_s=job.timeout_s,
        variables={**job.variables, **variables},
        working_directory=_normal(job.working_directory),
        artifacts=tuple(dict.fromkeys(posixpath.normpath(path) for path in job.artifacts)),
    )


def _normal(directory: str | None) -> str | None:
    """Return the directory without `./` and the like; None for the root of the tree."""
    normal = posixpath.normpath(directory) if directory else "."
    return None if normal == "." else normal
