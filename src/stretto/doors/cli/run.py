"""`stretto run`."""

from __future__ import annotations

import asyncio
import functools

import click

from stretto.core.ports import RunRow
from stretto.doors.cli.carry import Carrier, progress_for, show_headlines, tell
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.detach import detach, refuse_jobs
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.progress import Progress
from stretto.doors.cli.request import read_request, request_options
from stretto.waist import RunRequest, Waist


@declare("run", example="stretto run https://example.org/team/app.git -b main -p release")
@request_options
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="How many jobs run at once.")
@click.option("--detach", "detached", is_flag=True, help="Print the run's number and go on in the background.")
@click.pass_obj
def command(options: Options, /, *, jobs: int | None, detached: bool, **given: object) -> int:
    """Run the pipeline of a repository.

    REPOSITORY is a path or URL; without it, the repository you are in. Exits with 0 when the run succeeded, 1 when it failed,
    2 for bad input, 4 when it was canceled, 5 when it timed out, 130 when it was interrupted.

    Ctrl-C cancels, a second one kills. `kill` leaves the jobs running, for `stretto resume`.

    To a server, a repository on this host is sent: the commit with its files, without history.
    """
    request = read_request(**given)  # type: ignore[arg-type]  # click gives what request_options declare
    return asyncio.run(_run(options, request, jobs, detached=detached))


async def _run(options: Options, request: RunRequest, jobs: int | None, *, detached: bool) -> int:
    settings = options.settings()
    async with options.open(settings) as waist:
        refuse_jobs(waist, jobs)
        if detached:
            await detach(waist, options, settings, await _submit(waist, request), jobs)
            return 0
        changes = asyncio.create_task(waist.has_changes(request), name="look for changes")
        try:
            rows = await _submit(waist, request)
            progress = progress_for(options, runs=len(rows))
            show_headlines(progress, options, rows)
            changes.add_done_callback(functools.partial(_tell_changes, progress))  # whenever that is known
            reports, code = await Carrier(waist, options, progress, jobs=jobs).carry([str(row.number) for row in rows])
        finally:
            changes.cancel()
            await asyncio.gather(changes, return_exceptions=True)
        await tell(waist, options, reports)
        return code


async def _submit(waist: Waist, request: RunRequest) -> list[RunRow]:
    """Store the runs; where Ctrl-C comes too late for that, say which ones there are."""
    stored: list[RunRow] = []
    try:
        return await waist.submit(request, stored=stored.append)
    except asyncio.CancelledError:
        for row in stored:
            stands = "at the server; follow it" if waist.is_server else "stored and was not started; carry it on"
            told = f"with `stretto resume {row.number}`, or drop it with `stretto cancel {row.number}`"
            say(f"run {row.number} is {stands} {told}", err=True)
        raise


def _tell_changes(progress: Progress, changes: asyncio.Task[bool]) -> None:
    if not changes.cancelled() and changes.exception() is None and changes.result():
        progress.say("the working tree has changes that are not part of the run; --working-tree runs them too")
