"""The table of results: ratios, goals, and benches that fail."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from bench import run
from bench.measure import interleave
from bench.row import Row


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("a", "b", 2.0, 2.4, times=1.2), True),
        (Row("a", "b", 2.0, 2.5, times=1.2), False),
        (Row("a", "b", 1.0, 1.25, plus=0.25), True),
        (Row("a", "b", 1.0, 1.26, plus=0.25), False),
        (Row("a", "b", 1.0, 9.0), True),
    ],
)
def test_row_says_whether_its_goal_is_met(row: Row, met: bool) -> None:
    """A goal is a number of floors or the floor and so much more; the border still counts."""
    assert row.is_met is met


def test_interleave_gives_each_subject_its_turn_in_each_round() -> None:
    """One round to warm up, then all subjects in turn."""
    order: list[str] = []
    times = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b"] * 3
    assert set(times) == {"a", "b"}


def test_results_name_goals_missed_and_benches_failed() -> None:
    """What went wrong is in the file for all to see."""
    text = run.render("2024-12-31", "one core", [Row("jobs", "shells", 0.5, 2.0, times=3.0)], {"tree": "no room"})
    assert "| jobs | shells | 0.5 s | 2 s | 4.00 | 3 times | NO |" in text
    assert "- `tree` failed: no room" in text


def test_collect_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A bench that can't run does not take the others with it."""
    row = Row("a", "b", 1.0, 1.0)

    class Good:
        """A bench."""

        rows = staticmethod(lambda: [row])

    monkeypatch.setattr(importlib, "import_module", {"bench.good": Good}.__getitem__)
    rows, failures = run.collect(["bad", "good"])
    assert rows == [row]
    assert list(failures) == ["bad"]


def test_every_bench_is_run() -> None:
    """Each module of bench/ that measures is in the list."""
    modules = {path.stem for path in Path(run.__file__).parent.glob("*.py") if "def rows(" in path.read_text()}
    assert modules == set(run.BENCHES)
