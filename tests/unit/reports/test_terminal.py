"""Text made harmless, measured, cut and laid out."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.core.states import Status
from stretto.reports.terminal import SYMBOLS, Cell, Style, cut, plain, width
from tests.unit.reports.histories import unhurried


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("naïve 漢字 👍", "naïve 漢字 👍"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("c1 \x9b31m", "c1 \\x9b31m"),
        ("a\r\nb\tc\u2028d", "a  b c d"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("soft\xadhyphen", "soft\\xadhyphen"),
        ("lone \ud800", "lone \\ud800"),
        ("tag \U000e0041", "tag \\U000e0041"),
        ("👩\u200d🔬", "👩\u200d🔬"),
    ],
)
def test_plain_makes_text_harmless(text: str, safe: str) -> None:
    """Controls, direction marks and surrogates are spelled out, blanks become spaces, the rest stays."""
    assert plain(text) == safe


@unhurried
@given(st.text(st.characters()))
def test_plain_leaves_nothing_that_a_terminal_obeys(text: str) -> None:
    """No control, format or surrogate character is left, and the text can be written as UTF-8."""
    safe = plain(text)
    categories = {unicodedata.category(char) for char in safe if char not in "\u200c\u200d"}
    assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    safe.encode()
    assert plain(safe) == safe


@pytest.mark.parametrize(
    ("text", "cells"), [("", 0), ("abc", 3), ("漢字", 4), ("e\u0301", 1), ("👍", 2), ("한", 2), ("\uff41", 2), ("…", 1)]
)
def test_width_counts_cells(text: str, cells: int) -> None:
    """Wide characters take two cells, marks none."""
    assert width(text) == cells


@unhurried
@given(st.text(), st.integers(min_value=3, max_value=20))
def test_cut_keeps_to_its_cells(text: str, cells: int) -> None:
    """A text that fits stays as it is; another one ends with the ellipsis and takes no more than its cells."""
    short = cut(text, cells, "…")
    assert width(short) <= cells
    assert short == text if width(text) <= cells else short.endswith("…")


def test_table_keeps_columns_under_each_other() -> None:
    """Wide characters and colours do not move the columns that follow."""
    style = Style(color=True, columns=60)
    rows = [[Cell("漢字", "31"), Cell("1"), Cell("end")], [Cell("plain"), Cell("22"), Cell("end")]]
    lines = [re.sub(r"\x1b\[\d*m", "", line) for line in style.table(("Name", "#", "Last"), rows, right=frozenset({1}))]
    assert lines == ["Name    #  Last", "漢字    1  end", "plain  22  end"]


def test_table_cuts_the_widest_columns_to_fit() -> None:
    """A name of any length leaves the table as wide as it may be and short columns whole."""
    rows = [[Cell("n" * 300), Cell("m" * 90), Cell("short")]]
    lines = Style(columns=50).table(("Name", "Message", "State"), rows, right=frozenset())
    assert [width(line) for line in lines[1:]] == [50]
    assert lines[1].endswith("…  short")


def test_table_stays_readable_where_there_is_no_room() -> None:
    """Columns are not cut below what still says something."""
    rows = [[Cell("n" * 30), Cell("m" * 30)]]
    assert Style(columns=4).table(("A", "B"), rows, right=frozenset())[1] == "nnnnnnn…  mmmmmmm…"


def test_style_paints_only_when_asked() -> None:
    """Without colours there is no escape sequence, with them each painted text is closed."""
    assert Style().paint("x", "31") == "x"
    assert Style(color=True).paint("x", "31") == "\x1b[31mx\x1b[0m"


def test_style_has_a_symbol_of_its_own_for_every_status() -> None:
    """No two statuses share a symbol, and the fallback is ASCII."""
    assert set(SYMBOLS) == set(Status)
    for unicode in (True, False):
        symbols = [Style(unicode=unicode).symbol(status) for status in Status]
        assert len(set(symbols)) == len(symbols)
        assert all(width(symbol) == 1 for symbol in symbols)
        assert unicode or all(symbol.isascii() for symbol in symbols)


def test_table_leaves_out_the_last_columns_where_cutting_is_not_enough() -> None:
    """A terminal of 30 columns gets whole lines with what comes first, and never less than three columns."""
    header, rows = tuple("ABCDEF"), [[Cell("x" * 20)] * 6]
    assert Style(columns=30).table(header, rows, right=frozenset({5}))[1].split() == ["x" * 7 + "…"] * 2 + [
        "x" * 9 + "…"
    ]
    assert len(Style(columns=5).table(header, rows, right=frozenset())[1].split()) == 3
