"""`stretto logs`: what a job wrote, byte for byte. The one command that lets control characters through."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from stretto.core.errors import InputError
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options
from stretto.doors.cli.reference import resolve_run
from stretto.waist import LogRequest, Waist


@declare("logs", example="stretto logs latest build -f")
@click.argument("run")
@click.argument("job", required=False)
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Attempt; default: the latest.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the attempt is over.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with the local time it came.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Begin N lines before the end.")
@click.pass_obj
def command(
    options: Options,
    run: str,
    job: str | None,
    attempt: int | None,
    follow: bool,
    timestamps: bool,
    tail: int | None,
) -> None:
    """Print a job's output exactly as it was, its colours included.

    RUN is a number, an id or `latest`. JOB may be left out where the run has only one. Output is never JSON.
    """
    asyncio.run(_print(options, run, job, attempt, follow, timestamps, tail))


async def _print(
    options: Options, run: str, job: str | None, attempt: int | None, follow: bool, timestamps: bool, tail: int | None
) -> None:
    async with options.open() as waist:
        run = await resolve_run(waist, run)
        request = LogRequest(run, job or await _only_job(waist, run), attempt, follow)
        lines = await waist.log_lines(request) if timestamps or tail is not None else []
        skip = 0 if tail is None else max(0, len(lines) - tail)
        printer = Printer(skip, [at for at, _ in lines] if timestamps else None)
        output = sys.stdout.buffer
        async for data in waist.logs(request):
            output.write(printer.feed(data))
            output.flush()


async def _only_job(waist: Waist, run: str) -> str:
    report = await waist.report(run)
    names = [job.name for _, job in report.jobs()]
    if len(names) != 1:
        told = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
        raise InputError(f"run {report.run.number} has {len(names)} jobs: which one?", hint=f"its jobs: {told}")
    return names[0]


class Printer:
    """Leaves out the first `skip` lines and, given `times`, begins each line with its own.

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
        return f"{at.astimezone().isoformat(timespec='milliseconds')} ".encode()


def _split(data: bytes) -> list[bytes]:
    r"""Return the lines with their ends; only `\n` ends one."""
    pieces = [piece + b"\n" for piece in data.split(b"\n")]
    last = pieces.pop()[:-1]
    return [*pieces, last] if last else pieces
