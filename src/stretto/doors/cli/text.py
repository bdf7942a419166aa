"""Text for people: foreign text made harmless, columns, colours.

What comes from outside (names, commit messages, job output) passes through `harmless` or `one_line` before it is shown, so that
nobody's file can move the cursor, recolour the screen or reverse the reading order. Only `stretto logs` shows bytes as they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

ELLIPSIS: Final = "…"

STYLES: Final = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "cyan": "36",
}
STATUS_STYLES: Final = {
    "success": "green",
    "failed": "red",
    "canceled": "yellow",
    "running": "cyan",
    "waiting": "yellow",
}
"""Statuses that are not here are shown dim: nothing happens there."""

_HIDDEN: Final = [
    *range(0x20),
    *range(0x7F, 0xA0),
    *range(0x200B, 0x2010),  # zero-width characters and direction marks
    *range(0x2028, 0x202F),  # line separators, bidirectional overrides
    *range(0x2066, 0x206A),  # bidirectional isolates
    0xFEFF,
    *range(0xD800, 0xE000),  # lone surrogates: bytes that were no UTF-8
]
_ESCAPES: Final = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _HIDDEN}
_ESCAPES_OF_TEXT: Final = {code: text for code, text in _ESCAPES.items() if code != ord("\n")}
_TERMINAL_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")


def harmless(text: str) -> str:
    """Return the text with control characters spelled out; line ends stay, tabs become blanks."""
    return text.expandtabs().translate(_ESCAPES_OF_TEXT)


def one_line(text: str) -> str:
    """Return the first line of the text with control characters spelled out."""
    lines = text.strip().splitlines()
    return lines[0].expandtabs().translate(_ESCAPES) if lines else ""


def output_line(line: bytes) -> str:
    """Return a line of a job's output as it may be shown among our own: no colours, and of a progress bar its last state."""
    text = _TERMINAL_SEQUENCE.sub("", line.decode("utf-8", "replace"))
    return text.rstrip("\r\n").rpartition("\r")[2].expandtabs().translate(_ESCAPES)


def width(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def clip(text: str, columns: int) -> str:
    """Return the text cut to this many columns, with an ellipsis where something is missing."""
    if width(text) <= columns:
        return text
    kept, used = [], 0
    for char in text:
        used += width(char)
        if used > columns - 1:
            break
        kept.append(char)
    return "".join(kept) + ELLIPSIS if columns > 0 else ""


def pad(text: str, columns: int) -> str:
    """Return the text filled up with blanks to this many columns."""
    return text + " " * (columns - width(text))


@dataclass(frozen=True, slots=True)
class Paint:
    """Colours, where they are wanted."""

    enabled: bool = False

    def __call__(self, text: str, *styles: str) -> str:
        """Return the text in these styles."""
        if not self.enabled or not text or not styles:
            return text
        return f"\x1b[{';'.join(STYLES[style] for style in styles)}m{text}\x1b[0m"

    def status(self, status: str, text: str | None = None) -> str:
        """Return the status (or `text` instead of it) in the colour of the status."""
        return self(status if text is None else text, STATUS_STYLES.get(status, "dim"))


PLAIN: Final = Paint()


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    columns: int | None = None,
    paint: Paint = PLAIN,
    status: str | None = "status",
) -> list[str]:
    """Return aligned lines; what does not fit into `columns` (None: no limit) is cut from the last column.

    The cells of the column with the heading `status` are coloured by what they say.
    """
    body = [list(row) for row in rows]
    widths = [max(map(width, cells)) for cells in zip(head, *body, strict=True)]
    if columns is not None:
        rest = columns - sum(widths[:-1]) - 2 * (len(widths) - 1)
        widths[-1] = min(widths[-1], max(rest, 8))
    coloured = head.index(status) if status in head else None
    lines = [paint("  ".join(map(pad, head, widths)).rstrip(), "bold")]
    for row in body:
        cells = [pad(clip(cell, columns_), columns_) for cell, columns_ in zip(row, widths, strict=True)]
        if coloured is not None:
            cells[coloured] = paint.status(row[coloured], cells[coloured])
        lines.append("  ".join(cells).rstrip())
    return lines
