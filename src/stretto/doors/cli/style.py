"""How reports look on a stream of the command line."""

from __future__ import annotations

from typing import Final, TextIO

from stretto.doors.cli.options import Options, columns
from stretto.reports.terminal import SYMBOLS, Style

ANY_WIDTH: Final = 10_000
"""For pipes and files: nothing is cut that somebody may search for."""


def style_for(options: Options, stream: TextIO) -> Style:
    """Return the style for this stream: as wide as its terminal, with colours and symbols if it has them."""
    return Style(
        color=options.paint(stream).enabled,
        unicode=_shows(stream, "".join(symbol for symbol, _ in SYMBOLS.values()) + "…→"),
        columns=columns(stream) or ANY_WIDTH,
    )


PLAIN: Final = Style(columns=ANY_WIDTH)
"""For files."""


def _shows(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding)
    except UnicodeEncodeError:
        return False
    return True
