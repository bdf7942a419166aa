"""The JSON Schema and the parser say the same of the same file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from stretto.core.errors import DefinitionError
from stretto.definitions import load, schema
from stretto.definitions.document import read
from stretto.definitions.fault import Faults
from stretto.definitions.node import TRUE, Kind, Node

GOLDEN = Path(__file__).parents[2] / "golden"
VALIDATOR = Draft202012Validator(schema())
SCHEMA_RULES = {
    *(
        "unknown-key",
        "missing-key",
        "wrong-type",
        "out-of-range",
        "bad-duration",
        "bad-choice",
        "bad-name",
        "bad-image",
    ),
    *("bad-path", "bad-variable", "empty-script", "empty-list", "no-jobs", "null-job", "duplicate-stage"),
}


def plain(node: Node) -> Any:
    """Return the node as the JSON data an editor's validator would see."""
    if node.kind is Kind.MAP:
        return {name: plain(value) for name, (_, value) in node.entries.items()}
    if node.kind is Kind.LIST:
        return [plain(item) for item in node.items]
    if node.kind is Kind.BOOLEAN:
        return node.text in TRUE
    if node.kind is Kind.NULL:
        return None
    if node.kind in (Kind.INTEGER, Kind.NUMBER) and math.isfinite(node.number):
        return int(node.number) if node.kind is Kind.INTEGER else node.number
    return node.text


def data_of(path: Path) -> tuple[Any, bool]:
    """Return the file's data and whether it is faultless YAML."""
    faults = Faults()
    root = read(path.read_bytes(), faults)
    return (None, False) if root is None else (plain(root), not faults)


def test_schema_is_a_schema() -> None:
    """The schema is valid JSON Schema 2020-12, and every keyword in it has a description."""
    Draft202012Validator.check_schema(schema())
    job = schema()["properties"]["jobs"]["additionalProperties"]
    for properties in (schema()["properties"], job["properties"], schema()["properties"]["default"]["properties"]):
        assert all(value["description"].endswith(".") for value in properties.values())


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.yml")), ids=lambda path: path.stem)
def test_schema_accepts_good_file(path: Path) -> None:
    """What the parser takes, the schema takes."""
    assert list(VALIDATOR.iter_errors(data_of(path)[0])) == []


@pytest.mark.parametrize("path", sorted((GOLDEN / "faults").glob("*.yml")), ids=lambda path: path.stem)
def test_schema_rejects_what_it_can(path: Path) -> None:
    """A file with a fault that a schema can express is rejected by the schema too."""
    data, sound = data_of(path)
    rules = {line.split(": ")[1] for line in path.with_suffix(".txt").read_text().splitlines()}
    if sound and rules & SCHEMA_RULES:
        assert list(VALIDATOR.iter_errors(data))


class _Quoting(yaml.SafeDumper):
    """Quotes every string, so that it stays one whatever YAML would make of it, and shares nothing."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))

TEXTS = st.sampled_from(
    [
        *("a", "b", "build", "test", "", " a", "a\n", "/a", "a/../b", "..", "a/b", "python:3.12", "A", "x y", "é"),
        *("1h", "90s", "0s", "1h 30m\n", "on_success", "always", "1.5", "true", "A_1", "1A"),
    ]
)
SCALARS = st.one_of(TEXTS, st.booleans(), st.none(), st.integers(-2, 12), st.floats(-2, 12, width=16))
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=4
)


def mostly(good: st.SearchStrategy[Any], other: st.SearchStrategy[Any] = ANYTHING) -> st.SearchStrategy[Any]:
    """Return the strategy with something else in one of forty draws: files with one fault or none tell most."""
    return st.integers(0, 39).flatmap(lambda die: other if die == 0 else good)


NAMES = mostly(st.sampled_from(["a", "b", "a/b", "x y", "1.5", "é"]), TEXTS)
LINES = mostly(st.sampled_from(["make", "true", "1"]), SCALARS)
DURATIONS = mostly(
    st.sampled_from([1, 0.5, "1h", "90s", "1d 2h"]), st.sampled_from([0, "0s", "2h 1d", 1e9, "1h 30m\n", -1])
)
SHARED = {
    "image": st.just("alpine:3"),
    "variables": st.dictionaries(mostly(st.sampled_from(["A", "B_1"]), TEXTS), LINES, max_size=2),
    "before_script": st.lists(LINES, max_size=2) | LINES,
    "working_directory": NAMES,
    "artifacts": st.fixed_dictionaries({"paths": st.lists(NAMES, max_size=2)}),
    "allow_failure": st.booleans(),
    "retry": mostly(st.integers(0, 10) | st.just(2.0), st.integers(-1, 12) | st.floats(0, 3)),
    "timeout": DURATIONS,
}
OWN = {
    "when": st.sampled_from(["on_success", "always"]),
    "needs": st.lists(st.fixed_dictionaries({"job": NAMES, "optional": st.just(True)}), max_size=1),
}
JOB = st.fixed_dictionaries(
    {"stage": st.just("build"), "script": mostly(LINES)},
    optional={name: mostly(good) for name, good in (SHARED | OWN).items()},
)
PIPELINES = st.fixed_dictionaries(
    {"name": mostly(NAMES), "jobs": mostly(st.dictionaries(NAMES, mostly(JOB), min_size=1, max_size=2))},
    optional={
        "stages": mostly(st.just(["build", "test"])),
        "default": mostly(st.fixed_dictionaries({}, optional=SHARED)),
        "fail_fast": mostly(st.booleans()),
        "timeout": mostly(DURATIONS),
        ".own": ANYTHING,
    },
)
CROSS_RULES = {
    "unknown-stage",
    "unknown-need",
    "self-need",
    "later-need",
    "need-cycle",
    "duplicate-need",
    "duplicate-stage",
}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mostly(PIPELINES))
def test_schema_and_parser_agree(data: Any) -> None:
    """A generated file is rejected by the parser exactly when the schema rejects it, cross-references apart.

    So are duplicates: for a schema 1 and 1.0 are the same, for the parser 1 and '1' (both are the text 1).
    """
    text = yaml.dump(data, Dumper=_Quoting, allow_unicode=True).encode()
    try:
        load("pipeline.yml", text)
        rules = set()
    except DefinitionError as error:
        rules = {fault.rule for fault in error.faults} - CROSS_RULES
    errors = [error for error in VALIDATOR.iter_errors(data) if error.validator != "uniqueItems"]
    assert bool(rules) == bool(errors), (rules, errors, text)
