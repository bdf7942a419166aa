"""What the docs list is what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from stretto.core.states import FINAL, TRANSITIONS, Reason, Status, roll_up
from stretto.reports import model, schema
from tests.unit.reports.histories import example

DOCS = Path(__file__).parents[3] / "docs"


def section(page: str, heading: str) -> str:
    """Return the part of a page under this heading, up to the next heading of any level."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{page} has no heading {heading!r}"
    return found[1]


def table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the rows of the table under this heading."""
    lines = [line for line in section(page, heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def words(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_states_page_lists_every_status() -> None:
    """The table of statuses is complete and says rightly which are final."""
    rows = table("states.md", "Statuses")
    assert [words(row[0])[0] for row in rows] == [status.value for status in Status]
    assert {words(row[0])[0] for row in rows if row[1] == "yes"} == FINAL


def test_states_page_lists_every_transition() -> None:
    """Diagram and table have the transitions of the core, and no others."""
    allowed = {(old.value, new.value) for old, news in TRANSITIONS.items() for new in news}
    told = [(words(row[0])[0], words(row[1])[0]) for row in table("states.md", "Transitions")]
    assert sorted(told) == sorted(allowed)
    arrows = re.findall(r"^ +(\S+) --> (\S+)$", section("states.md", "States"), re.MULTILINE)
    ends = {("[*]", "pending"), *((status.value, "[*]") for status in FINAL)}
    assert sorted(arrows) == sorted(allowed | ends)


def test_states_page_lists_every_reason() -> None:
    """The table of reasons is that of the core, in its order."""
    assert [words(row[0])[0] for row in table("states.md", "Reasons")] == [reason.value for reason in Reason]


def test_states_page_rolls_up_as_the_core_does() -> None:
    """Each line of the roll-up table holds."""
    for jobs, stage in table("states.md", "Roll-up"):
        assert roll_up(Status(word) for word in words(jobs)) == words(stage)[0], jobs


def test_report_page_describes_every_key() -> None:
    """For each object of the schema the page has its keys, in order, with the schema's words."""
    whole = schema.load()
    objects = {name: part for name, part in whole["$defs"].items() if part.get("type") == "object"}
    for name, part in {"report": whole, **objects}.items():
        keys = part["properties"]
        rows = table("report.md", name)
        assert [words(row[0])[0] for row in rows] == list(keys), name
        for row, value in zip(rows, keys.values(), strict=True):
            described = value if "description" in value else whole["$defs"][value["$ref"].rpartition("/")[2]]
            assert row[2] == described["description"]


def test_report_page_shows_a_real_report() -> None:
    """The example is what the code makes of such a run."""
    shown = re.search(r"```json\n(.*?)```", section("report.md", "An example"), re.DOTALL)
    assert shown is not None
    assert json.loads(shown[1]) == model.to_json(example())


def test_report_page_lists_the_exit_codes() -> None:
    """The table of exit codes is that of the model."""
    codes = [int(row[0]) for row in table("report.md", "Exit codes")]
    assert codes == [model.EXIT_SUCCESS, model.EXIT_FAILED, model.EXIT_CANCELED, model.EXIT_TIMED_OUT]
