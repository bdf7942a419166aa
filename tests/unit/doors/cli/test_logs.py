"""`stretto logs`: bytes as they were."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from stretto.doors.cli.logs import Printer
from tests.unit.doors.cli.conftest import OUTPUT, Said

AT = datetime(2024, 5, 1, 12, 0, 0, 250_000, UTC)


@pytest.mark.parametrize("follow", [[], ["-f"]])
def test_logs_print_every_byte(stretto: Callable[..., Said], follow: list[str]) -> None:
    """Invalid UTF-8, NUL, escapes, a carriage return and a last line without end come through as they were."""
    said = stretto("logs", "1", "compile", *follow)
    assert (said.code, said.out, said.err) == (0, OUTPUT, "")


def test_logs_tail_begins_lines_before_the_end(stretto: Callable[..., Said]) -> None:
    """--tail counts lines, the unfinished one included."""
    assert stretto("logs", "1", "compile", "--tail", "2").out == OUTPUT.partition(b"\n")[2]
    assert stretto("logs", "1", "compile", "--tail", "0").out == b""
    assert stretto("logs", "1", "compile", "--tail", "99").out == OUTPUT


def test_logs_timestamps_begin_lines_with_the_time(stretto: Callable[..., Said]) -> None:
    """Each line has its time in UTC, also with -f and --tail; the bytes after it are untouched."""
    out = stretto("logs", "1", "compile", "-t").out
    stamp = rb"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z "
    assert len(re.findall(stamp, out)) == 3
    assert re.sub(stamp, b"", out) == OUTPUT
    assert stretto("logs", "1", "compile", "-f", "-t", "--tail", "2").out == b"".join(out.splitlines(keepends=True)[1:])


def test_logs_job_may_be_left_out_where_there_is_one(stretto: Callable[..., Said]) -> None:
    """A run with one job needs no name; one with several says which there are."""
    assert stretto("logs", "latest").out == b"alone\n"
    said = stretto("logs", "1")
    assert (said.code, said.out) == (2, b"")
    assert "compile, lint, publish, alarm" in said.err


@pytest.mark.parametrize(
    "arguments", [["77"], ["1", "compil"], ["1", "compile", "--attempt", "2"], ["1", "publish"]], ids=str
)
def test_logs_of_what_is_not_there_are_an_input_error(stretto: Callable[..., Said], arguments: list[str]) -> None:
    """A run, job or attempt that is not there ends with 2 and prints nothing."""
    said = stretto("logs", *arguments)
    assert (said.code, said.out) == (2, b"")
    assert said.err.startswith("stretto: error:")


def test_printer_knows_lines_across_chunks() -> None:
    """A line that comes in pieces gets one time; only a line feed ends a line."""
    printer = Printer(0, [AT, AT])
    stamp = b"2024-05-01T12:00:00.250000Z "
    told = b"".join(map(printer.feed, [b"a", b"b\rc\n", b"\x0bd", b"e"]))
    assert told == stamp + b"ab\rc\n" + stamp + b"\x0bde"


def test_printer_gives_later_lines_the_time_they_are_seen() -> None:
    """A line that has no recorded time yet bears the current one."""
    before = datetime.now(UTC).replace(microsecond=0)
    stamp, _, rest = Printer(0, []).feed(b"new\n").partition(b" ")
    assert rest == b"new\n"
    assert before <= datetime.fromisoformat(stamp.decode()) <= datetime.now(UTC)


def test_printer_skips_lines_across_chunks() -> None:
    """What is skipped is skipped wherever chunks are cut."""
    printer = Printer(2, None)
    assert [printer.feed(data) for data in (b"1\n2", b"\n3", b"3\n4")] == [b"", b"3", b"3\n4"]
