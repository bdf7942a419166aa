"""`stretto cancel`: end a run, or one job of it."""

from __future__ import annotations

import asyncio
import getpass
import json

import click

from stretto.core.states import FINAL
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say


@declare("cancel", example="stretto cancel 12 --wait")
@click.argument("run")
@click.option("--job", "-j", metavar="JOB", help="Cancel this job only; the others go on as far as they don't need it.")
@click.option("--force", is_flag=True, help="Kill what runs instead of asking it to end.")
@click.option("--wait", is_flag=True, help="Come back when the run (or job) is over.")
@click.pass_obj
def command(options: Options, run: str, job: str | None, force: bool, wait: bool) -> int:
    """Cancel RUN (a number or id): what runs is stopped, nothing new starts.

    A run whose process is gone is taken up and ended here.
    """
    return asyncio.run(_cancel(options, run, job, force, wait))


async def _cancel(options: Options, run: str, job: str | None, force: bool, wait: bool) -> int:
    async with options.open() as waist:
        row = await waist.cancel(run, job=job, by=getpass.getuser(), force=force)
        if wait and row.status not in FINAL:
            async for _, event in waist.watch(row.id):
                if job is not None and getattr(event, "job", None) == job:
                    report = await waist.report(row.id)
                    if any(known.name == job and known.status in FINAL for _, known in report.jobs()):
                        break
            row = await waist.find_run(row.id)
        if options.json:
            say(json.dumps({"number": row.number, "id": row.id, "status": row.status, "reason": row.reason}))
        elif not options.quiet:
            what = f"job {job} of run {row.number}" if job else f"run {row.number}"
            say(f"{what}: cancel requested" if row.status not in FINAL else f"run {row.number}: {row.status}")
        return 0
