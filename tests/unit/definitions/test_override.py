"""Values from the command line over those of the file."""

from __future__ import annotations

import pytest

from stretto.core.errors import DefinitionError, InputError
from stretto.definitions import Definition, load, read_variables

FILE = b"""\
name: a
.base: &base {retry: 1, variables: {A: x}}
jobs:
  a: {<<: *base, stage: build, script: [one, two], image: alpine}
  b: {<<: *base, stage: test, script: make, needs: [a]}
  a.b: {stage: test, script: make, needs: [{job: a}]}
  'c=d': {stage: test, script: make}
"""


def with_set(*arguments: str) -> Definition:
    """Return the definition with the overrides applied."""
    return load("pipeline.yml", FILE, overrides=arguments)


def test_override_replaces_values_of_every_kind() -> None:
    """Scalars, lists and members of lists are replaced, missing keywords and variables added, later arguments win."""
    definition = with_set(
        "jobs.a.image=python:3.12",
        "default.timeout=5m",
        "stages=[build, test]",
        "jobs.a.script.0=echo hi",
        'jobs."a.b".image=busybox',
        "jobs.'c=d'.retry=3",
        "variables.NEW=a=b",
        "variables.EMPTY=",
        "name=first",
        "name=second",
        "fail_fast=true",
    )
    by_name = {job.name: job for job in definition.jobs}
    assert (definition.name, definition.stages, definition.fail_fast) == ("second", ("build", "test"), True)
    assert by_name["a"].script == ("echo hi", "two")
    assert by_name["a"].image == "python:3.12"
    assert by_name["a.b"].image == "busybox"
    assert by_name["c=d"].retry == 3
    assert {job.timeout_s for job in definition.jobs} == {300.0}
    assert by_name["a"].variables == {"NEW": "a=b", "EMPTY": "", "A": "x"}


def test_override_of_shared_map_changes_one_job() -> None:
    """A value inside an anchor is changed where the path goes, not where the alias is used as well."""
    by_name = {job.name: job for job in with_set("jobs.a.variables.A=y").jobs}
    assert by_name["a"].variables == {"A": "y"}
    assert by_name["b"].variables == {"A": "x"}


@pytest.mark.parametrize(
    ("argument", "message", "hint"),
    [
        ("jobs.zzz.image=a", "there is no 'zzz' in jobs", None),
        ("jobs.a.imag=a", "there is no 'imag' in jobs.a", "did you mean 'image'?"),
        ("jobs.a.script.2=a", "there is no '2' in jobs.a.script", "the list has the positions 0 to 1"),
        ("jobs.a.script.-1=a", "there is no '-1' in jobs.a.script", "the list has the positions 0 to 1"),
        ("jobs.b.script.0=a", "there is no '0' in jobs.b.script", "what is there is the string 'make'"),
        ("jbos=a", "there is no 'jbos' in the file", "did you mean 'jobs'?"),
        ("jobs.a", "this is no KEY=VALUE", None),
        ("=a", "this is no KEY=VALUE", None),
        ("jobs..a=b", "this is no KEY=VALUE", None),
        ('jobs."a.b=c', "this is no KEY=VALUE", None),
        ("name=[a", "the value can't be read", None),
        ("name=*x", "no anchor &x before this alias", None),
    ],
)
def test_override_that_does_not_fit_is_refused(argument: str, message: str, hint: str | None) -> None:
    """A path or value that can't be applied is an InputError that names the argument."""
    with pytest.raises(InputError) as caught:
        with_set(argument)
    assert not isinstance(caught.value, DefinitionError)
    assert f"--set {argument!r}: " in caught.value.message
    assert message in caught.value.message
    assert hint is None or caught.value.hint == hint


def test_override_with_bad_value_is_a_fault_of_the_argument() -> None:
    """A value that the keyword does not allow is reported at the argument, beside the faults of the file."""
    with pytest.raises(DefinitionError) as caught:
        load(
            "p.yml",
            FILE.replace(b"script: make, needs: [a]", b"script: []", 1),
            overrides=["jobs.a.retry=many", "jobs.a.needs=[b]"],
        )
    assert caught.value.message.splitlines() == [
        "--set jobs.a.retry: wrong-type: 'retry' must be a whole number from 0 to 10, found the string 'many'",
        "--set jobs.a.needs: later-need: the job 'b' is in stage 'test', which comes after 'build'"
        " (a job can need jobs of its own and of earlier stages)",
        "p.yml:5:39: empty-script: 'script' is empty",
    ]


def test_variables_are_read_as_written() -> None:
    """--var takes everything after the first '=', the last of a name wins, and a bad name is refused."""
    assert read_variables(["A=1", "B=x=y", "A= 2", "C="]) == {"A": " 2", "B": "x=y", "C": ""}
    for argument in ("A", "=x", "1A=x", "A-B=x", "A\n=x", "A=\0"):
        with pytest.raises(InputError, match="--var"):
            read_variables([argument])
