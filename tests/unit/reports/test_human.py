"""Durations, sizes and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from stretto.reports import human


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0.00 s"),
        (0.421, "0.42 s"),
        (0.996, "1.0 s"),
        (1.23, "1.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 m 00 s"),
        (185, "3 m 05 s"),
        (3599.6, "1 h 00 m"),
        (7380, "2 h 03 m"),
        (86_399, "1 d 00 h"),
        (273_600, "3 d 04 h"),
    ],
)
def test_duration_suits_its_size(seconds: float | None, text: str) -> None:
    """A duration has the two units that matter, without a step from 60 s to 1 m that lies."""
    assert human.duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (3_400_000_000, "3.4 GB"), (10**13, "10.0 TB")],
)
def test_size_suits_its_unit(size_bytes: int, text: str) -> None:
    """A size has the largest unit of which there is at least one."""
    assert human.size(size_bytes) == text


def test_moment_names_its_zone() -> None:
    """A time for people is in the zone asked for and says which that is."""
    zone = timezone(timedelta(hours=2), "CEST")
    assert human.moment(datetime(2026, 5, 1, 12, 0, 1, tzinfo=UTC), zone) == "2026-05-01 14:00:01 CEST"
    assert human.moment(None, zone) == "-"


def test_count_has_its_plural() -> None:
    """One job, three jobs."""
    assert (human.count(1, "job"), human.count(3, "job"), human.count(0, "job")) == ("1 job", "3 jobs", "0 jobs")
