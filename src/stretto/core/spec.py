"""What a definition compiles to: an immutable, JSON-able graph of jobs.

A spec is complete: nothing that runs it looks at the definition, the repository's file or the settings again. It is data;
no method here decides or does anything. `to_json` and `from_json` are exact inverses.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from stretto.core.errors import StrettoError
from stretto.core.frozen import frozen

SPEC_VERSION: Final = 1
"""Raised when a stored spec of an older release could be misread."""

MAX_RETRIES: Final = 10


class When(StrEnum):
    """On what a job looks before it runs: the results of what it needs (or, without `needs`, of all earlier stages)."""

    ON_SUCCESS = "on_success"
    ALWAYS = "always"
    ON_FAILURE = "on_failure"


@frozen
class Need:
    """A job that must be over before another may start; its artifacts are laid under the other's tree."""

    job: str
    artifacts: bool = True


@frozen
class RetryPolicy:
    """How often a failed job is tried again (`max_retries`, 0 to 10) and how long it waits before each further try.

    The wait before retry n is `backoff_s * 2**(n-1)`, at most `backoff_max_s`, times a random factor of 0.5 to 1.
    """

    max_retries: int = 0
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0


@frozen
class Script:
    """Shell lines. `before` and `main` run in one shell that stops at the first failure; `after` runs in a shell of its own
    whatever happened, and does not change the outcome."""

    main: tuple[str, ...]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@frozen
class ContainerSpec:
    """The container a job asks for. `user` None means the image's own user."""

    image: str
    user: str | None = None


@frozen
class JobSpec:
    """A node of the graph.

    `needs` None means: wait for all earlier stages; `()` means: start at once. `driver` is a key of the driver registry.
    `timeout_s` None means no limit. `params` is for drivers that run no script; the engine does not look into it.
    """

    name: str
    stage: str
    driver: str
    script: Script | None = None
    container: ContainerSpec | None = None
    needs: tuple[Need, ...] | None = None
    when: When = When.ON_SUCCESS
    allow_failure: bool = False
    retry: RetryPolicy = RetryPolicy()
    timeout_s: float | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    working_directory: str | None = None
    artifacts: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)


@frozen
class SourceSpec:
    """The tree a run works on: a repository at one commit. `repository` holds no credentials.

    `branch` is None for a detached commit or a tag. `upload` is the SHA-256 of the pack that the commit is in, where it was
    uploaded; nothing is then fetched from `repository`.
    """

    repository: str
    commit: str
    commit_message: str = ""
    branch: str | None = None
    tag: str | None = None
    upload: str | None = None


@frozen
class RunSpec:
    """The whole graph of one run. `kind` is `pipeline`, `task`, `release` or `process`; `stages` are in their order."""

    kind: str
    name: str
    stages: tuple[str, ...]
    jobs: tuple[JobSpec, ...]
    fail_fast: bool = False
    timeout_s: float | None = None
    source: SourceSpec | None = None
    definition: str | None = None


@frozen
class AttemptKey:
    """Names one try at one job of one run, and so everything that the try creates outside."""

    run_id: str
    job: str
    number: int

    @property
    def text(self) -> str:
        """The key as `run/job/attempt`, unique for ever."""
        return f"{self.run_id}/{self.job}/{self.number}"

    @property
    def name(self) -> str:
        """The key as a name that every back-end takes: `[a-z0-9-]`, at most 63 characters, no two keys alike."""
        return _name(self.run_id, self.job, self.number)

    @classmethod
    def parse(cls, text: str) -> AttemptKey:
        """Return the key that `text` (`run/job/attempt`; the job may hold slashes) stands for."""
        run_id, _, rest = text.partition("/")
        job, _, number = rest.rpartition("/")
        if not run_id or not job or not number.isdigit():
            raise StrettoError(f"{text!r} is not an attempt key (run/job/attempt)")
        return cls(run_id, job, int(number))


@lru_cache(maxsize=4096)
def _name(run_id: str, job: str, number: int) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", job.lower()).strip("-")[:16].strip("-") or "job"
    digest = hashlib.sha256(f"{run_id}/{job}/{number}".encode()).hexdigest()[:10]
    return f"stretto-{run_id.lower()[:20]}-{slug}-{digest}"


def to_json(spec: RunSpec) -> dict[str, Any]:
    """Return the spec as plain JSON data; what equals its default is left out."""
    return {
        "version": SPEC_VERSION,
        "kind": spec.kind,
        "name": spec.name,
        "stages": list(spec.stages),
        "jobs": [_job_to_json(job) for job in spec.jobs],
        "fail_fast": spec.fail_fast,
        "timeout_s": spec.timeout_s,
        "source": None if spec.source is None else _source_to_json(spec.source),
        "definition": spec.definition,
    }


def from_json(data: Mapping[str, Any]) -> RunSpec:
    """Return the spec that `to_json` made `data` from."""
    if data.get("version") != SPEC_VERSION:
        raise StrettoError(
            f"the run's spec has version {data.get('version')!r}; this Stretto reads version {SPEC_VERSION}"
        )
    source = data["source"]
    return RunSpec(
        kind=data["kind"],
        name=data["name"],
        stages=tuple(data["stages"]),
        jobs=tuple(_job_from_json(job) for job in data["jobs"]),
        fail_fast=data["fail_fast"],
        timeout_s=data["timeout_s"],
        source=None if source is None else SourceSpec(**source),
        definition=data["definition"],
    )


def _source_to_json(source: SourceSpec) -> dict[str, Any]:
    data: dict[str, Any] = {
        "repository": source.repository,
        "commit": source.commit,
        "commit_message": source.commit_message,
        "branch": source.branch,
        "tag": source.tag,
    }
    return data if source.upload is None else data | {"upload": source.upload}


def _job_to_json(job: JobSpec) -> dict[str, Any]:
    data: dict[str, Any] = {"name": job.name, "stage": job.stage, "driver": job.driver}
    if job.script is not None:
        data["script"] = {
            "before": list(job.script.before),
            "main": list(job.script.main),
            "after": list(job.script.after),
        }
    if job.container is not None:
        data["container"] = {"image": job.container.image, "user": job.container.user}
    if job.needs is not None:
        data["needs"] = [{"job": need.job, "artifacts": need.artifacts} for need in job.needs]
    if job.when is not When.ON_SUCCESS:
        data["when"] = job.when.value
    if job.allow_failure:
        data["allow_failure"] = True
    if job.retry != RetryPolicy():
        data["retry"] = {
            "max_retries": job.retry.max_retries,
            "backoff_s": job.retry.backoff_s,
            "backoff_max_s": job.retry.backoff_max_s,
        }
    if job.timeout_s is not None:
        data["timeout_s"] = job.timeout_s
    for name, value in (("variables", job.variables), ("params", job.params)):
        if value:
            data[name] = dict(value)
    if job.working_directory is not None:
        data["working_directory"] = job.working_directory
    if job.artifacts:
        data["artifacts"] = list(job.artifacts)
    return data


def _job_from_json(data: Mapping[str, Any]) -> JobSpec:
    script, container, needs, retry = (data.get(name) for name in ("script", "container", "needs", "retry"))
    return JobSpec(
        name=data["name"],
        stage=data["stage"],
        driver=data["driver"],
        script=None
        if script is None
        else Script(main=tuple(script["main"]), before=tuple(script["before"]), after=tuple(script["after"])),
        container=None if container is None else ContainerSpec(**container),
        needs=None if needs is None else tuple(Need(**need) for need in needs),
        when=When(data.get("when", When.ON_SUCCESS)),
        allow_failure=data.get("allow_failure", False),
        retry=RetryPolicy() if retry is None else RetryPolicy(**retry),
        timeout_s=data.get("timeout_s"),
        variables=data.get("variables", {}),
        working_directory=data.get("working_directory"),
        artifacts=tuple(data.get("artifacts", ())),
        params=data.get("params", {}),
    )
