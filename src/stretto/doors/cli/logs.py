"""`stretto logs`: a job's output, byte for byte as the job wrote it."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from stretto.core.errors import InputError
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options
from stretto.doors.cli.reference import JobName, RunReference, find_run

if TYPE_CHECKING:
    from stretto.waist import Waist


@declare("logs", example="stretto logs latest unit-tests -f")
@click.argument("run", type=RunReference())
@click.argument("job", required=False, type=JobName())
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Which attempt. Default: the latest.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the attempt is over.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with the time it came (UTC).")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
@click.pass_obj
def command(
    options: Options, run: str, job: str | None, attempt: int | None, follow: bool, timestamps: bool, tail: int | None
) -> None:
    """Print a job's output exactly as it was.

    RUN is a number, an id or `latest`. JOB may be left out where the run has only one. What it prints is never JSON.
    """
    asyncio.run(_print(options, run, job, attempt, follow=follow, timestamps=timestamps, tail=tail))


async def last_lines(chunks: AsyncIterator[bytes], count: int) -> list[bytes]:
    """Return the last lines of a log with their line ends, in memory of the size of those."""
    lines: deque[bytes] = deque(maxlen=count + 1)
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        lines.extend(line + b"\n" for line in whole)
    if rest:
        lines.append(rest)
    return list(lines)[max(0, len(lines) - count) :]


async def _print(
    options: Options,
    run: str,
    job: str | None,
    attempt: int | None,
    *,
    follow: bool,
    timestamps: bool,
    tail: int | None,
) -> None:
    from stretto.waist import LogRequest

    out = sys.stdout.buffer
    async with options.open() as waist:
        run = await find_run(waist, run)
        request = LogRequest(run, job or await _only_job(waist, run), attempt, follow)
        lines = await waist.log_lines(request) if timestamps or tail is not None else []
        skip = 0 if tail is None else max(0, len(lines) - tail)
        printer = Printer(skip, [at for at, _ in lines] if timestamps else None)
        async for data in waist.logs(request):
            out.write(printer.feed(data))
            if follow:
                out.flush()
        out.flush()


class Printer:
    """Leaves out the first `skip` lines and, given `times`, begins each line with its own (UTC).

    `times` are those of the lines that were there at the beginning; lines that come later get the time they are seen.
    """

    def __init__(self, skip: int, times: Sequence[datetime] | None) -> None:
        self._skip = skip
        self._times = times
        self._line = 0
        self._at_start = True

    def feed(self, data: bytes) -> bytes:
        """Return what is to be printed of the next bytes; nothing is held back."""
        if self._times is None and self._line >= self._skip:
            return data
        shown = bytearray()
        for piece in _split(data):
            if self._line >= self._skip:
                if self._at_start and self._times is not None:
                    shown += self._stamp(self._times)
                shown += piece
            self._at_start = piece.endswith(b"\n")
            self._line += self._at_start
        return bytes(shown)

    def _stamp(self, times: Sequence[datetime]) -> bytes:
        at = times[self._line] if self._line < len(times) else datetime.now(UTC)
        return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ} ".encode()


def _split(data: bytes) -> list[bytes]:
    r"""Return the lines with their ends; only `\n` ends one."""
    *whole, rest = data.split(b"\n")
    return [*(line + b"\n" for line in whole), *([rest] if rest else [])]


async def _only_job(waist: Waist, run: str) -> str:
    report = await waist.report(run)
    names = [job.name for _, job in report.jobs()]
    if len(names) == 1:
        return names[0]
    told = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
    raise InputError(f"run {report.run.number} has {len(names)} jobs; name one", hint=f"its jobs: {told}")
