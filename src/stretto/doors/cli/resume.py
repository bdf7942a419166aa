"""`stretto resume`."""

from __future__ import annotations

import asyncio

import click

from stretto.doors.cli.carry import Carrier, progress_for, tell
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.detach import refuse_jobs
from stretto.doors.cli.options import Options
from stretto.doors.cli.reference import RunReference, find_run


@declare("resume", example="stretto resume 12")
@click.argument("run", type=RunReference())
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="How many jobs run at once.")
@click.pass_obj
def command(options: Options, run: str, jobs: int | None) -> int:
    """Carry on a run whose process is gone.

    Jobs that are still running are taken over, nothing is run twice. Of a run that is over, what was left behind is cleaned
    up. Exits like `stretto run`.

    A server carries its runs on itself: there, this follows the run.
    """
    return asyncio.run(_resume(options, run, jobs))


async def _resume(options: Options, run: str, jobs: int | None) -> int:
    async with options.open() as waist:
        refuse_jobs(waist, jobs)
        report = await waist.report(await find_run(waist, run))
        progress = progress_for(options)
        reports, code = await Carrier(waist, options, progress, jobs=jobs).carry([str(report.run.number)])
        await tell(waist, options, reports)
        return code
