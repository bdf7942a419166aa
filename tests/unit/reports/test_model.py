"""The JSON document: exact, described by its schema, and mapped to exit codes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given

from stretto.core.errors import StrettoError
from stretto.core.spec import When
from stretto.core.states import Reason, Status
from stretto.reports import schema
from stretto.reports.model import SCHEMA, Report, exit_code, from_json, to_json
from tests.unit.reports.histories import reports, shop, unhurried


def closed(node: Any) -> Any:
    """Return the schema with every object shut to keys that it does not describe."""
    if isinstance(node, dict):
        return {
            key: False if key == "additionalProperties" and value is True else closed(value)
            for key, value in node.items()
        }
    return [closed(item) for item in node] if isinstance(node, list) else node


CLOSED = jsonschema.Draft202012Validator(
    closed(schema.load()), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


def test_schema_is_a_valid_schema() -> None:
    """The file is a JSON Schema of draft 2020-12."""
    jsonschema.Draft202012Validator.check_schema(schema.load())


@unhurried
@given(reports())
def test_report_conforms_to_the_closed_schema(report: Report) -> None:
    """Whatever happened to a run, its document has every key that is described and no other."""
    CLOSED.validate(json.loads(json.dumps(to_json(report))))


@unhurried
@given(reports())
def test_report_survives_json(report: Report) -> None:
    """Reading a written report gives the same report."""
    assert from_json(json.loads(json.dumps(to_json(report)))) == report


def test_schema_lists_the_statuses_and_conditions_of_the_core() -> None:
    """The enumerations of the schema are those of the core."""
    defs = schema.load()["$defs"]
    assert defs["status"]["enum"] == [status.value for status in Status]
    assert list(defs["counts"]["properties"]) == [status.value for status in Status]
    assert set(defs["job"]["properties"]["when"]["enum"]) == {when.value for when in When}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "stretto.report/2"),
        (("run", "status"), "done"),
        (("run", "reason"), "Job failed"),
        (("run", "started_at"), "2026-05-01T12:00:00+02:00"),
        (("stages", 0, "jobs", 0, "queue_s"), -1),
        (("stages", 0, "jobs", 0, "attempts", 0, "number"), 0),
        (("stages", 0, "jobs", 0, "artifacts", 0, "digest"), "md5"),
        (("stages", 0, "jobs", 0, "unheard_of"), 1),
    ],
)
def test_schema_refuses_what_it_does_not_describe(path: tuple[str | int, ...], value: object) -> None:
    """A wrong value, or in tests an unknown key, is found."""
    data = to_json(shop())
    CLOSED.validate(data)
    node: Any = data
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert not CLOSED.is_valid(data)


def test_schema_lets_keys_be_added() -> None:
    """The published schema takes a document of a later release that says more."""
    data = to_json(shop())
    data["stages"][0]["jobs"][0]["cost"] = 3
    assert jsonschema.Draft202012Validator(schema.load()).is_valid(data)
    assert from_json(data) == shop()


def test_from_json_refuses_another_version() -> None:
    """A document of another version is not guessed at."""
    with pytest.raises(StrettoError, match=r"stretto\.report/2"):
        from_json({**to_json(shop()), "schema": "stretto.report/2"})


def test_to_json_begins_with_the_schema_and_writes_utc() -> None:
    """The first key names the contract; times are ISO 8601 in UTC with milliseconds."""
    data = to_json(shop())
    assert next(iter(data.items())) == ("schema", SCHEMA)
    assert data["run"]["started_at"] == "2026-05-01T12:00:00.200Z"


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (Status.SUCCESS, None, 0),
        (Status.SKIPPED, Reason.CONDITION, 0),
        (Status.FAILED, Reason.JOB_FAILED, 1),
        (Status.FAILED, Reason.ALLOWED_FAILURE, 1),
        (Status.CANCELED, Reason.CANCEL_REQUESTED, 4),
        (Status.FAILED, Reason.TIMEOUT, 5),
    ],
)
def test_exit_code_follows_status_and_reason(status: Status, reason: str | None, code: int) -> None:
    """0 success, 1 failed, 4 canceled, 5 timed out."""
    report = shop()
    assert (
        exit_code(dataclasses.replace(report, run=dataclasses.replace(report.run, status=status, reason=reason)))
        == code
    )


def test_exit_code_refuses_a_run_under_way() -> None:
    """A run that is not over has no exit code."""
    with pytest.raises(ValueError, match="run 12 is running"):
        exit_code(shop(events=5))
