"""`stretto cancel`."""

from __future__ import annotations

import asyncio
import json

import click

from stretto.core.errors import InputError
from stretto.core.events import AttemptEnded, JobEnded
from stretto.core.states import FINAL
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.reference import JobName, RunReference, find_run
from stretto.doors.cli.request import user
from stretto.reports.model import Report
from stretto.reports.row import row_to_json
from stretto.reports.terminal import plain
from stretto.waist import Waist


@declare("cancel", example="stretto cancel 12 --job deploy")
@click.argument("run", type=RunReference())
@click.option("--job", metavar="NAME", type=JobName(), help="Cancel this job only.")
@click.option("--wait", is_flag=True, help="Return when it is over.")
@click.pass_obj
def command(options: Options, run: str, job: str | None, wait: bool) -> None:
    """Cancel a run or one job of it.

    Jobs get TERM, and KILL after a grace. What is over already stays as it is.
    """
    asyncio.run(_cancel(options, run, job, wait=wait))


async def _cancel(options: Options, run: str, job: str | None, *, wait: bool) -> None:
    async with options.open() as waist:
        run = await find_run(waist, run)
        if job is not None:
            _refuse_final_job(await waist.report(run), job)
        row = await waist.cancel(run, job=job, by=user())
        if wait:
            await _wait(waist, run, job)
        report = await waist.report(run)
    status = _status(report, job)
    if options.json:
        data = row_to_json(row) | {"status": report.run.status.value}
        say(json.dumps(data if job is None else data | {"job": job, "job_status": status}, ensure_ascii=False))
    elif not options.quiet:
        what = f"run {report.run.number}" + (f", job {plain(job)}" if job is not None else "")
        over = status in FINAL
        say(f"{what}: {status}" if over else f"{what}: cancel requested, {status} until its jobs are stopped")


async def _wait(waist: Waist, run: str, job: str | None) -> None:
    """Return when the run, or the job of it, is over."""
    async for _, event in waist.watch(run):
        ended = isinstance(event, AttemptEnded | JobEnded) and event.job == job
        if ended and _status(await waist.report(run), job) in FINAL:
            return


def _status(report: Report, job: str | None) -> str:
    if job is None:
        return report.run.status.value
    return next(one.status.value for _, one in report.jobs() if one.name == job)


def _refuse_final_job(report: Report, job: str) -> None:
    for _, one in report.jobs():
        if one.name == job and one.status in FINAL and not report.is_over:
            raise InputError(f"run {report.run.number}, job {job!r} is over already: {one.status}")
