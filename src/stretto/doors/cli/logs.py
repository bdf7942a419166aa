"""`stretto logs`: a job's output, byte for byte as the job wrote it."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC
from typing import TYPE_CHECKING

import click

from stretto.core.errors import InputError
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options
from stretto.doors.cli.reference import JobName, RunReference, find_run

if TYPE_CHECKING:
    from stretto.waist import LogRequest, Waist


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

    RUN is a number, an id or `latest`. JOB may be left out where the run has only one.
    """
    if follow and (timestamps or tail is not None):
        raise InputError("--follow goes with neither --timestamps nor --tail")
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
        if timestamps:
            for line in await _stamped(waist, request, tail):
                out.write(line)
        elif tail is not None:
            for line in await last_lines(waist.logs(request), tail):
                out.write(line)
        else:
            async for chunk in waist.logs(request):
                out.write(chunk)
                if follow:
                    out.flush()
        out.flush()


async def _stamped(waist: Waist, request: LogRequest, tail: int | None) -> list[bytes]:
    lines = await waist.log_lines(request)
    if tail is not None:
        lines = lines[max(0, len(lines) - tail) :]
    return [f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ} ".encode() + line + b"\n" for at, line in lines]


async def _only_job(waist: Waist, run: str) -> str:
    report = await waist.report(run)
    names = [job.name for _, job in report.jobs()]
    if len(names) == 1:
        return names[0]
    told = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
    raise InputError(f"run {report.run.number} has {len(names)} jobs; name one", hint=f"its jobs: {told}")
