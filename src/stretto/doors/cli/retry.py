"""`stretto retry`."""

from __future__ import annotations

import asyncio

import click

from stretto.doors.cli.carry import Carrier, progress_for, show_headlines, tell
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.detach import detach, refuse_jobs
from stretto.doors.cli.options import Options
from stretto.doors.cli.reference import RunReference, find_run
from stretto.doors.cli.request import user


@declare("retry", example="stretto retry latest --failed")
@click.argument("run", type=RunReference())
@click.option("--failed", is_flag=True, help="Keep the jobs that succeeded, with what they left.")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="How many jobs run at once.")
@click.option("--detach", "detached", is_flag=True, help="Print the run's number and go on in the background.")
@click.pass_obj
def command(options: Options, run: str, failed: bool, jobs: int | None, detached: bool) -> int:
    """Do a run that is over again.

    The same jobs of the same commit, as a new run. Goes on and exits like `stretto run`.
    """
    return asyncio.run(_retry(options, run, jobs, failed_only=failed, detached=detached))


async def _retry(options: Options, run: str, jobs: int | None, *, failed_only: bool, detached: bool) -> int:
    settings = options.settings()
    async with options.open(settings) as waist:
        refuse_jobs(waist, jobs)
        row = await waist.retry(await find_run(waist, run), failed_only=failed_only, by=user())
        if detached:
            await detach(waist, options, settings, [row], jobs)
            return 0
        progress = progress_for(options)
        show_headlines(progress, options, [row])
        reports, code = await Carrier(waist, options, progress, jobs=jobs).carry([str(row.number)])
        await tell(waist, options, reports)
        return code
