"""When schedules are due, on days with 23, 24 and 25 hours."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stretto.core.errors import InputError
from stretto.triggers.cron import NAMES, next_after


def occurrences(cron: str, zone: str, after: str, count: int) -> list[str]:
    """Return the next occurrences in UTC, to the minute."""
    at = datetime.fromisoformat(after).replace(tzinfo=UTC)
    found = []
    for _ in range(count):
        at = next_after(cron, zone, at)
        found.append(at.strftime("%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("30 2 * * *", "UTC", "2026-03-28", ["03-28 02:30", "03-29 02:30"]),
        ("*/20 9-10 * * MON-FRI", "UTC", "2026-03-06 10:30", ["03-06 10:40", "03-09 09:00"]),
        ("0 12 * * *", "Asia/Kolkata", "2026-03-06", ["03-06 06:30", "03-07 06:30"]),
        ("@daily", "Europe/Berlin", "2026-01-01 12:00", ["01-01 23:00", "01-02 23:00"]),
        # 29 March: Berlin's clocks go from 2:00 to 3:00, which is 1:00 UTC
        ("30 2 * * *", "Europe/Berlin", "2026-03-28", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("0 * * * *", "Europe/Berlin", "2026-03-29 00:30", ["03-29 01:00", "03-29 02:00"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-03-29 00:20", ["03-29 00:30", "03-29 01:00", "03-29 01:30"]),
        # 25 October: from 3:00 to 2:00, which is 1:00 UTC
        ("30 2 * * *", "Europe/Berlin", "2026-10-24 06:00", ["10-25 00:30", "10-26 01:30"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-10-25 00:20", ["10-25 00:30", "10-25 01:00", "10-25 01:30"]),
        # 1 November, New York: from 2:00 to 1:00, which is 6:00 UTC
        ("15 1 * * *", "America/New_York", "2026-11-01 00:00", ["11-01 05:15", "11-02 06:15"]),
        ("0 0 29 2 *", "UTC", "2026-01-01", ["02-29 00:00"]),
    ],
)
def test_next_occurrences_are_right(cron: str, zone: str, after: str, expected: list[str]) -> None:
    """Jumped-over times come right after the jump, those that come twice are due once, `*` follows the time that passes."""
    assert occurrences(cron, zone, after, len(expected)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_names_stand_for_five_fields(name: str) -> None:
    """Each name is due when its fields are, in any case."""
    at = datetime(2026, 5, 5, 5, 5, tzinfo=UTC)
    assert next_after(name.upper(), "UTC", at) == next_after(NAMES[name], "UTC", at) > at


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "@reboot",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "0 0 30 2 *",
        "a b c d e",
        "0 0 * * 8",
        "*/0 * * * *",
        "1-0 * * * *",
    ],
)
def test_schedule_that_means_nothing_is_refused(cron: str) -> None:
    """Seconds too: a run a second is nobody's schedule."""
    with pytest.raises(InputError):
        next_after(cron, "UTC", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "zone", ["", "Mars/Base", "../etc/passwd", "/etc/localtime", "Europe", "Europe/Berlin\x00", "x" * 5000]
)
def test_zone_that_is_none_is_refused(zone: str) -> None:
    """A name that leads out of the database of zones above all."""
    with pytest.raises(InputError, match="no time zone"):
        next_after("0 0 * * *", zone, datetime(2026, 1, 1, tzinfo=UTC))
