"""When a schedule is due: five fields as in cron(5), or a name such as `@daily`, in a time zone of the IANA database.

Daylight saving is treated as Debian's cron does: a time that the clocks jump over is due right after the jump, one that comes
twice is due once, unless the hour or minute begins with `*`, which follows the time that passes.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from stretto.core.errors import InputError

NAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def next_after(cron: str, zone: str, at: datetime) -> datetime:
    """Return the first occurrence later than `at`, in UTC; InputError if there is none, or `cron` or `zone` means nothing."""
    fields = NAMES.get(cron.strip().lower(), cron)
    if len(fields.split()) != 5 or len(fields) > 200:
        raise InputError(
            f"{cron[:80]!r} is no schedule: five fields are needed",
            hint=f"minute, hour, day, month, weekday; or one of {', '.join(NAMES)}",
        )
    local = at.astimezone(_zone(zone))
    try:
        return next(CronSim(fields, local)).astimezone(UTC)
    except CronSimError as error:
        raise InputError(f"{cron!r} is no schedule: {error}") from error
    except StopIteration:
        raise InputError(f"{cron!r} is never due") from None


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # also where there is no database of zones
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"{name[:80]!r} is no time zone", hint="a name such as Europe/Berlin, or UTC") from error
