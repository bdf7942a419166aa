"""Text made fit for a terminal or a pipe: made harmless, measured in cells, cut, painted, laid out in columns.

Names and messages come from repositories that nobody vetted: a control character among them must not move the cursor, change a
title or turn the direction of a line. Widths are those of the Unicode tables; where a terminal disagrees, a column shifts, that
is all.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import tzinfo
from typing import Final

from stretto.core.frozen import frozen
from stretto.core.states import Status

BLANKS: Final = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029")
JOINERS: Final = frozenset("\u200c\u200d")
"""Format characters that many scripts and emoji can't do without, and that harm nobody."""
UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})
"""Unicode categories of which no character reaches a terminal: controls, formats, surrogates, what is unassigned or private."""
MIN_COLUMN: Final = 8
"""To how many cells a column may be cut, at least, before columns are left out."""
MIN_COLUMNS: Final = 3
"""How many columns a table keeps, however narrow the terminal."""

BOLD: Final = "1"
DIM: Final = "2"
RED: Final = "31"
GREEN: Final = "32"
YELLOW: Final = "33"
CYAN: Final = "36"

PAINTS: Final[dict[Status, str]] = {
    Status.PENDING: DIM,
    Status.QUEUED: DIM,
    Status.RUNNING: CYAN,
    Status.WAITING: YELLOW,
    Status.SUCCESS: GREEN,
    Status.FAILED: RED,
    Status.CANCELED: YELLOW,
    Status.SKIPPED: DIM,
}
SYMBOLS: Final[dict[Status, tuple[str, str]]] = {
    Status.PENDING: ("·", "."),
    Status.QUEUED: ("○", "o"),
    Status.RUNNING: ("●", "*"),
    Status.WAITING: ("◆", "?"),
    Status.SUCCESS: ("✓", "+"),
    Status.FAILED: ("✗", "x"),
    Status.CANCELED: ("■", "#"),
    Status.SKIPPED: ("↷", "-"),
}
"""For each status the symbol, and the one for a stream that takes only ASCII."""


def plain(text: str) -> str:
    r"""Return the text in one line and harmless: blanks become spaces, other unsafe characters `\x1b`, `\u202e` and the like."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_safe(char) for char in text)


def width(text: str) -> int:
    """Return how many cells of a terminal the (harmless) text takes."""
    return len(text) if text.isascii() else sum(_cells(char) for char in text)


def cut(text: str, cells: int, ellipsis: str) -> str:
    """Return the text, if need be cut so that it takes at most `cells` with `ellipsis` at its end."""
    if width(text) <= cells:
        return text
    left = cells - width(ellipsis)
    end = 0
    for char in text:
        left -= _cells(char)
        if left < 0:
            break
        end += 1
    return text[:end] + ellipsis


@frozen
class Cell:
    """A field of a table: harmless text and, where colours are wanted, the ANSI code it is painted with."""

    text: str
    paint: str = ""


@frozen
class Style:
    """How to write for a certain reader: with ANSI colours or not, beyond ASCII or not, `columns` wide, in which zone.

    `zone` None means the one of this machine.
    """

    color: bool = False
    unicode: bool = True
    columns: int = 120
    zone: tzinfo | None = None

    def clean(self, text: str) -> str:
        """Return text from outside, harmless and, where the stream asks for it, in ASCII."""
        text = plain(text)
        return text if self.unicode else text.encode("ascii", "backslashreplace").decode()

    def paint(self, text: str, code: str) -> str:
        """Return the text in this colour, if colours are wanted."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and code and text else text

    def symbol(self, status: Status) -> str:
        """Return the symbol of a status."""
        return SYMBOLS[status][0 if self.unicode else 1]

    @property
    def ellipsis(self) -> str:
        """What stands for the rest of a text that was cut."""
        return "…" if self.unicode else "..."

    @property
    def arrow(self) -> str:
        """What stands between a job and the next."""
        return "→" if self.unicode else "->"

    def table(self, header: Sequence[str], rows: Sequence[Sequence[Cell]], *, right: frozenset[int]) -> list[str]:
        """Return the lines of a table; the columns of `right` are flush right, the widest ones are cut where room is short.

        Where that is not enough, the last columns are left out.
        """
        if not rows:
            return []
        widths = [max(width(name), *(width(row[i].text) for row in rows)) for i, name in enumerate(header)]
        while len(widths) > MIN_COLUMNS and sum(min(cells, MIN_COLUMN) + 2 for cells in widths) - 2 > self.columns:
            del widths[-1]
        self._fit(widths)
        head = [Cell(name, BOLD) for name in header]
        return [self._row(row[: len(widths)], widths, right) for row in (head, *rows)]

    def _fit(self, widths: list[int]) -> None:
        excess = sum(widths) + 2 * (len(widths) - 1) - self.columns
        while excess > 0:
            widest = max(widths)
            at = widths.index(widest)
            if widest <= MIN_COLUMN:
                return
            next_widest = max((cells for cells in widths if cells < widest), default=MIN_COLUMN)
            less = min(excess, max(1, widest - max(next_widest, MIN_COLUMN)))
            widths[at] -= less
            excess -= less

    def _row(self, row: Sequence[Cell], widths: Sequence[int], right: frozenset[int]) -> str:
        fields = []
        for i, (cell, cells) in enumerate(zip(row, widths, strict=True)):
            text = cut(cell.text, cells, self.ellipsis)
            blank = " " * (cells - width(text))
            painted = self.paint(text, cell.paint)
            if i in right:
                fields.append(blank + painted)
            else:
                fields.append(painted + (blank if i < len(widths) - 1 else ""))
        return "  ".join(fields).rstrip()


def _safe(char: str) -> str:
    if char in BLANKS:
        return " "
    if char in JOINERS or unicodedata.category(char) not in UNSAFE:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _cells(char: str) -> int:
    if char.isascii():
        return 1
    if char in JOINERS or unicodedata.category(char) in ("Mn", "Me") or "\u1160" <= char <= "\u11ff":
        return 0  # marks on the character before, and the later parts of a Hangul syllable
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
