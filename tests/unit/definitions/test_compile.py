"""From a definition to the spec: what outranks what, and what a driver takes."""

from __future__ import annotations

import pytest

from stretto.core.errors import DefinitionError
from stretto.core.spec import ContainerSpec, Need, SourceSpec
from stretto.definitions import compile_pipeline, load

DEFINITION = load(
    ".cicd-pipelines/ci.yml",
    b"""\
name: ci
variables: {A: top, B: top, C: top, D: top}
default: {variables: {B: default, C: default, D: default}}
jobs:
  with: {stage: build, script: x, image: alpine, variables: {C: job, D: job}}
  without: {stage: test, script: x, needs: [{job: with, artifacts: false}, {job: gone, optional: true}]}
""",
)


def test_variables_outrank_each_other() -> None:
    """--var outranks the job, the job the defaults, the defaults the pipeline; other jobs are not touched."""
    spec = compile_pipeline(DEFINITION, driver="process", variables={"D": "var", "E": "var"})
    assert spec.jobs[0].variables == {"A": "top", "B": "default", "C": "job", "D": "var", "E": "var"}
    assert spec.jobs[1].variables == {"A": "top", "B": "default", "C": "default", "D": "var", "E": "var"}


def test_spec_records_where_it_comes_from() -> None:
    """The spec has the source and the path of the definition; the same arguments give the same spec."""
    source = SourceSpec("https://example.org/r.git", "0" * 40, "message", branch="main")
    spec = compile_pipeline(DEFINITION, driver="process", source=source)
    assert (spec.kind, spec.source, spec.definition) == ("pipeline", source, ".cicd-pipelines/ci.yml")
    assert compile_pipeline(DEFINITION, driver="process", source=source) == spec


def test_optional_need_of_no_job_is_dropped() -> None:
    """A need that is optional and has no job is left out, the other keeps what it says of artifacts."""
    assert compile_pipeline(DEFINITION, driver="process").jobs[1].needs == (Need("with", artifacts=False),)


def test_driver_decides_about_images() -> None:
    """`process` ignores images; `docker` wants one for every job and names those that have none."""
    assert [job.container for job in compile_pipeline(DEFINITION, driver="process").jobs] == [None, None]
    with pytest.raises(DefinitionError) as caught:
        compile_pipeline(DEFINITION, driver="docker")
    assert [(fault.line, fault.rule) for fault in caught.value.faults] == [(6, "missing-image")]
    whole = load("p", b"name: a\ndefault: {image: alpine}\njobs: {a: {stage: test, script: x}}")
    assert compile_pipeline(whole, driver="docker").jobs[0].container == ContainerSpec("alpine")
