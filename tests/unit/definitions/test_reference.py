"""docs/pipeline-yml.md says what the parser does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import stretto.definitions
from stretto.definitions import compile_pipeline, load
from stretto.definitions.pipeline import ARTIFACTS, DEFAULT, JOB, NEED, PIPELINE
from stretto.definitions.record import Keyword, Record

ROOT = Path(__file__).parents[3]
REFERENCE = (ROOT / "docs" / "pipeline-yml.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", REFERENCE, flags=re.S | re.M)
SOURCES = sorted(Path(stretto.definitions.__file__).parent.glob("*.py"))


def row(keyword: Keyword) -> str:
    """Return the keyword's row in a table of the reference."""
    value = json.dumps(keyword.default) if not isinstance(keyword.default, str) else keyword.default
    default = "required" if keyword.required else "" if keyword.default is None else f"`{value}`"
    return f"| `{keyword.name}` | {keyword.shape.words} | {default} | {keyword.description} |"


@pytest.mark.parametrize("record", [PIPELINE, DEFAULT, JOB, NEED.record, ARTIFACTS], ids=lambda record: record.title)
def test_reference_lists_every_keyword(record: Record) -> None:
    """Each keyword's row is word for word what the table of keywords says."""
    for keyword in record.keywords:
        assert row(keyword) in REFERENCE.splitlines()


def test_reference_lists_no_other_keyword() -> None:
    """No row of a table is left of a keyword that is gone."""
    records = (PIPELINE, DEFAULT, JOB, NEED.record, ARTIFACTS)
    known = {row(keyword) for record in records for keyword in record.keywords}
    assert {line for line in REFERENCE.splitlines() if re.match(r"\| `\w+` \|(.*\|){3}$", line)} == known


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.split("\n", 1)[0])
def test_example_is_a_pipeline(example: str) -> None:
    """Every example of the reference can be run."""
    assert compile_pipeline(load("pipeline.yml", example.encode()), driver="process").jobs


def test_every_keyword_has_an_example() -> None:
    """Each keyword of the top level and of jobs is shown in a heading and in its example."""
    headings = " ".join(line for line in REFERENCE.splitlines() if line.startswith("### "))
    examples = "\n".join(EXAMPLES)
    for keyword in (*PIPELINE.keywords, *JOB.keywords):
        assert f"`{keyword.name}`" in headings
        assert re.search(rf"\b{keyword.name}:", examples)


def test_reference_lists_every_rule() -> None:
    """The rules in the table are exactly those in the sources."""
    listed = set(re.findall(r"^\| `([a-z]+(?:-[a-z0-9]+)*)` \| [^|]* \|$", REFERENCE, flags=re.M))
    words = {word for path in SOURCES for word in re.findall(r'"([a-z]+(?:-[a-z0-9]+)*)"', path.read_text())}
    golden = {
        line.split(": ")[1]
        for path in (ROOT / "tests" / "golden" / "faults").glob("*.txt")
        for line in path.read_text().splitlines()
    }
    assert golden <= listed <= words
    hyphened = {
        word for word in words if "-" in word and not word.startswith(("runs-", "timeout-", "continue-", "working-"))
    }
    assert hyphened - {"utf-8", "utf-8-sig"} <= listed
