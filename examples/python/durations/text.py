"""Reading and writing durations."""

import re

UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}

_PART = re.compile(r"(\d+)([a-z]?)")


class DurationError(ValueError):
    """The text is not a duration."""


def parse(text: str) -> int:
    """Return the seconds that `text` stands for: `90`, `45s`, `1h30m`, `2w`. Units come from large to small, each once."""
    text = text.strip().lower()
    position, total, last = 0, 0, None
    while match := _PART.match(text, position):
        number, unit = match.groups()
        size = UNITS.get(unit or "s")
        if size is None:
            raise DurationError(f"{text!r}: no unit {unit!r}; there is {', '.join(UNITS)}")
        if last is not None and size >= last:
            raise DurationError(f"{text!r}: {unit or 's'} can't follow a unit of the same size or a smaller one")
        total, last, position = total + int(number) * size, size, match.end()
    if position != len(text) or not text:
        raise DurationError(f"{text!r} is not a duration such as 1h30m")
    return total


def format_seconds(seconds: int) -> str:
    """Return the shortest text that `parse` reads as `seconds`."""
    if seconds < 0:
        raise DurationError("a duration is not negative")
    parts = []
    for unit, size in UNITS.items():
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
