"""The list of decisions in docs/adr/README.md is whole."""

from __future__ import annotations

import re
from pathlib import Path

ADR = Path(__file__).resolve().parents[3] / "docs/adr"


def test_every_decision_is_listed_under_its_title() -> None:
    """Each record is in the list, in order, under the title it bears; no number is used twice."""
    listed = re.findall(
        r"^\| \[(\d{4})\]\((\1-[a-z0-9-]+\.md)\) \| (.+) \|$", (ADR / "README.md").read_text(), re.MULTILINE
    )
    written = []
    for path in sorted(ADR.glob("[0-9]*.md")):
        heading = path.read_text().splitlines()[0]
        match = re.fullmatch(r"# (\d+)\. (.+)", heading)
        assert match, f"{path.name}: the heading is {heading!r}, not '# NUMBER. TITLE'"
        assert int(match[1]) == int(path.name[:4]), path.name
        written.append((path.name[:4], path.name, match[2]))
    assert written
    assert listed == written
    assert len({number for number, _, _ in written}) == len(written)


def test_every_decision_says_what_would_violate_it() -> None:
    """A decision that nothing could violate decides nothing."""
    for path in ADR.glob("[0-9]*.md"):
        assert "Violated by" in path.read_text(), path.name
