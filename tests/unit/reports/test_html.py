"""A report as an HTML file: whole, escaped, and closed to the outside."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC
from html.parser import HTMLParser

import pytest
from hypothesis import given

from stretto.reports import html, timeline
from stretto.reports.model import Report
from stretto.reports.timeline import Axis, tick_label
from tests.unit.reports.histories import HOSTILE, at, reports, shop, unhurried, worded

VOID = {"meta", "rect", "line", "use"}
ELEMENTS = VOID | frozenset(
    re.findall(
        r"\S+",
        "html head title style body header main section footer p h1 h2 h3 bdi small span b i a code pre dl "
        "div dt dd ul ol li svg defs g text details summary time table caption thead tbody tr th td",
    )
)
ATTRIBUTES = frozenset(
    re.findall(
        r"\S+",
        "lang charset http-equiv content name class id aria-labelledby aria-label aria-hidden role tabindex "
        "datetime scope href x x1 x2 y y1 y2 width height text-anchor",
    )
)


class Checker(HTMLParser):
    """Fails on any element or attribute that the report does not use, and on a tag that is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ELEMENTS
        for name, value in attrs:
            assert name in ATTRIBUTES
            if name == "href":
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


@unhurried
@given(reports())
def test_html_is_made_of_our_elements_whatever_the_names(report: Report) -> None:
    """No text from outside becomes an element or attribute, every tag is closed, ids are unique and links stay inside."""
    page = checked(html.render(report, zone=UTC))
    assert len(set(page.ids)) == len(page.ids)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert all(link.startswith("#") for link in page.links)


@unhurried
@given(reports())
def test_html_can_be_written_and_has_no_control_characters(report: Report) -> None:
    """The page is valid UTF-8 and holds no control or direction character."""
    page = html.render(report, zone=UTC)
    page.encode()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)


@pytest.mark.parametrize("text", HOSTILE)
def test_html_escapes_every_text_of_a_run(text: str) -> None:
    """Every text from outside, wherever it stands, is shown and not obeyed."""
    checked(html.render(worded(text), zone=UTC))


def test_html_allows_itself_nothing_but_its_own_style() -> None:
    """The policy forbids everything except the one style sheet, named by its hash; no attribute carries style or code."""
    page = html.render(shop(), zone=UTC)
    style = page.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1] == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert not re.search(r"url\(|@import|https?:", style)


def test_html_tells_what_people_ask_for() -> None:
    """The page names what failed, why, how to see its log, the critical path and the artifacts."""
    text = " ".join("".join(checked(html.render(shop(), zone=UTC)).text).split())
    for part in (
        "failed: job_failed",
        "1 job failed: unit",
        "the script ended with exit code 2",
        "stretto logs 12 unit",
    ):
        assert part in text
    for part in ("2 m 10 s of 2 m 11 s", "dist/shop.whl", "123.5 kB", "2026-05-01 12:02:10 UTC", "A longer story."):
        assert part in text
    assert text.index("unit in test") < text.index("docs in build")


def test_bars_place_attempts_on_the_axis() -> None:
    """A bar starts and ends where its times are, in percent of the run; the critical path is marked and told in words."""
    report = shop()
    axis = Axis(at(0), 200.0)
    unit = report.stages[1].jobs[0]
    picture = timeline.bars(unit, axis, critical=True, now=at(200))
    assert '<rect class="queued" x="6.25%" y="10" width="0.05%" height="4"/>' in picture
    assert '<rect class="setup failed" x="6.3%" y="4" width="0.05%" height="16"/>' in picture
    assert '<rect class="script failed" x="6.35%" y="4" width="29.95%" height="16"/>' in picture
    assert '<rect class="path" x="6.3%" y="21" width="59.05%" height="3"/>' in picture
    assert "took 1 m 58 s, 2 attempts, on the critical path" in picture
    assert 'class="path"' not in timeline.bars(unit, axis, critical=False, now=at(200))


def test_bars_of_a_job_under_way_end_now() -> None:
    """What runs or waits reaches up to the time of the report."""
    report = shop(events=8, now=10.0)
    picture = timeline.bars(report.stages[0].jobs[1], Axis(at(0), 10.0), critical=False, now=at(10))
    assert '<rect class="setup running" x="7.0%" y="4" width="93.0%" height="16"/>' in picture


@pytest.mark.parametrize(
    ("span_s", "labels"),
    [
        (0.01, ["0", "0.002 s", "0.004 s", "0.006 s", "0.008 s", "0.01 s"]),
        (130.0, ["0", "30 s", "1 m", "1 m 30 s", "2 m"]),
        (7200.0, ["0", "30 m", "1 h", "1 h 30 m", "2 h"]),
        (86400.0 * 20, ["0", "4 d", "8 d", "12 d", "16 d", "20 d"]),
    ],
)
def test_axis_has_lines_that_people_can_count_with(span_s: float, labels: list[str]) -> None:
    """The axis has at most seven lines, at round times."""
    ticks = Axis(at(0), span_s).ticks()
    assert [label for _, label in ticks] == labels
    assert all(0 <= x <= 100 for x, _ in ticks)


def test_tick_label_has_at_most_two_units() -> None:
    """A label is as short as its time allows."""
    assert [tick_label(s) for s in (0.5, 15, 90, 5400, 90_000)] == ["0.5 s", "15 s", "1 m 30 s", "1 h 30 m", "1 d 1 h"]
