"""`stretto resume`: carry on a run whose process is gone."""

from __future__ import annotations

import asyncio

import click

from stretto.doors.cli.command import command as declare
from stretto.doors.cli.conducting import conduct
from stretto.doors.cli.options import Options


@declare("resume", example="stretto resume 12")
@click.argument("run")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="How many jobs run at once.")
@click.pass_obj
def command(options: Options, run: str, jobs: int | None) -> int:
    """Carry on RUN (a number or id) whose process was killed: nothing is repeated, what still runs is adopted.

    Of a run that is over, what it may have left behind is removed, and its report is printed.
    """
    return asyncio.run(_resume(options, run, jobs))


async def _resume(options: Options, run: str, jobs: int | None) -> int:
    async with options.open() as waist:
        return await conduct(waist, await waist.find_run(run), options, jobs=jobs)
