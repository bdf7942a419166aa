"""`stretto runs` and `stretto report`: tables for people, JSON for machines."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from stretto.reports import schema
from tests.unit.doors.cli.conftest import Place, Said


def numbers(said: Said) -> list[int]:
    """Return the numbers of the runs in a JSON answer, which must be all there is."""
    assert (said.code, said.err) == (0, "")
    return [row["number"] for row in json.loads(said.out)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [2, 1]),
        (["--status", "failed"], [1]),
        (["--status", "failed", "--status", "success"], [2, 1]),
        (["--branch", "main"], [2, 1]),
        (["--branch", "other"], []),
        (["--pipeline", "solo"], [2]),
        (["--repository", "."], [2, 1]),
        (["--repository", "/nowhere"], []),
        (["--limit", "1"], [2]),
        (["--before", "2"], [1]),
    ],
    ids=str,
)
def test_runs_lists_what_matches(stretto: Callable[..., Said], arguments: list[str], expected: list[int]) -> None:
    """Each option narrows the list, which is newest first."""
    assert numbers(stretto("runs", "--json", *arguments)) == expected


def test_runs_table_is_plain_and_harmless_in_a_pipe(stretto: Callable[..., Said]) -> None:
    """A pipe gets no colours, whole lines, and a commit message that can't do harm."""
    said = stretto("runs")
    assert said.code == 0
    assert "\x1b" not in said.text
    assert "\u202e" not in said.text
    assert [line.split()[1] for line in said.text.splitlines()[1:]] == ["2", "1"]
    assert said.text.count("Add \\x1b[31mred\\x1b[0m and \\u202eturned") == 2


def test_runs_colours_follow_the_option_and_no_color(
    stretto: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--color always wins over NO_COLOR; a pipe has none by itself."""
    monkeypatch.setenv("NO_COLOR", "1")
    assert b"\x1b[31m" not in stretto("runs").out
    assert b"\x1b[31m" in stretto("runs", "--color", "always").out


def test_runs_refuses_what_it_does_not_know(stretto: Callable[..., Said]) -> None:
    """A status that does not exist is bad input."""
    said = stretto("runs", "--status", "good")
    assert (said.code, said.out) == (2, b"")


def test_report_json_follows_its_schema(stretto: Callable[..., Said]) -> None:
    """--json and --format json print the same kind of document, which the schema describes."""
    for arguments in (["--json"], ["--format", "json"]):
        said = stretto("report", "1", *arguments)
        assert (said.code, said.err) == (0, "")
        report = json.loads(said.out)
        jsonschema.validate(report, schema.load())
        assert [stage["name"] for stage in report["stages"]] == ["build", "test", "report"]


@pytest.mark.parametrize(
    ("arguments", "jobs"), [(["--stage", "report"], ["publish", "alarm"]), (["--job", "lint"], ["lint"])], ids=str
)
def test_report_can_be_of_a_part(stretto: Callable[..., Said], arguments: list[str], jobs: list[str]) -> None:
    """A stage or job has a text of its own; the other formats have nothing else in their stages."""
    report = json.loads(stretto("report", "1", "--json", *arguments).out)
    jsonschema.validate(report, schema.load())
    assert [job["name"] for stage in report["stages"] for job in stage["jobs"]] == jobs
    assert [
        case.get("name")
        for case in ET.fromstring(stretto("report", "1", "--format", "junit", *arguments).text).iter("testcase")
    ] == jobs
    text = stretto("report", "1", *arguments).text
    assert "Run 1 of" not in text
    assert all(name in text for name in jobs)


def test_report_without_a_run_is_of_all(stretto: Callable[..., Said]) -> None:
    """Without RUN all runs are told, those of a pipeline with a sum."""
    assert numbers(stretto("report", "--json")) == [2, 1]
    assert stretto("report").text == stretto("runs").text
    assert stretto("report", "--pipeline", "small").text.startswith("small\n1 run, 0 of 1 that are over succeeded")


def test_report_finds_a_run_by_number_id_and_latest(stretto: Callable[..., Said]) -> None:
    """All three names of a run lead to it."""
    identity = json.loads(stretto("report", "latest", "--json").out)["run"]["id"]
    for reference in ("2", identity):
        assert json.loads(stretto("report", reference, "--json").out)["run"]["id"] == identity


def test_report_is_written_to_a_file(stretto: Callable[..., Said], tmp_path: Path) -> None:
    """-o writes the file and prints nothing; a place that can't be written to is bad input."""
    page = tmp_path / "report.html"
    assert stretto("report", "1", "--format", "html", "-o", page) == Said(0, b"", "")
    assert page.read_text().lower().startswith("<!doctype html>")
    said = stretto("report", "1", "-o", tmp_path / "no/where")
    assert (said.code, said.out) == (2, b"")


@pytest.mark.parametrize(
    "arguments",
    [
        ["77"],
        ["1", "--job", "lin"],
        ["1", "--job", "lin", "--json"],
        ["1", "--stage", "none"],
        ["1", "--stage", "test", "--job", "lint"],
        ["1", "--pipeline", "small"],
        ["--job", "lint"],
        ["--format", "html"],
        ["--pipeline", "none"],
    ],
    ids=str,
)
def test_report_of_what_is_not_there_is_an_input_error(stretto: Callable[..., Said], arguments: list[str]) -> None:
    """A run, stage, job or pipeline that is not there, or what makes no sense together, ends with 2; stdout stays empty."""
    said = stretto("report", *arguments)
    assert (said.code, said.out) == (2, b"")
    assert "error" in said.err


def test_latest_of_an_empty_home_is_an_input_error(stretto: Callable[..., Said], tmp_path: Path) -> None:
    """Where no run was ever made, there is no latest one, and the list is empty."""
    said = stretto("--home", tmp_path / "new", "report", "latest")
    assert (said.code, said.out) == (2, b"")
    assert "there are no runs yet" in said.err
    assert stretto("--home", tmp_path / "new", "runs").text == "No runs.\n"
    assert stretto("--home", tmp_path / "new", "runs", "--json").text == "[]\n"


def test_made_home_is_used(made: Place, stretto: Callable[..., Said]) -> None:
    """--home wins over the variable."""
    assert numbers(stretto("--home", made.home, "runs", "--json", "--limit", "1")) == [2]
