"""`stretto run`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import click

from stretto.core.errors import InputError
from stretto.core.ports import RunRow
from stretto.doors.cli.carry import Carrier, progress_for, tell
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.progress import headline
from stretto.doors.cli.request import read_request, request_options
from stretto.doors.cli.runs import row_to_json
from stretto.settings import Settings
from stretto.waist import RunRequest


@declare("run", example="stretto run https://example.org/team/app.git -b main -p release")
@request_options
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="How many jobs run at once.")
@click.option("--detach", is_flag=True, help="Print the run's number and go on in the background.")
@click.pass_obj
def command(options: Options, /, *, jobs: int | None, detach: bool, **given: object) -> int:
    """Run the pipeline of a repository.

    REPOSITORY is a path or URL; without it, the repository you are in. Exits with 0 when the run succeeded, 1 when it failed,
    2 for bad input, 4 when it was canceled, 5 when it timed out, 130 when it was interrupted.

    Ctrl-C cancels, a second one kills. `kill` leaves the jobs running, for `stretto resume`.
    """
    request = read_request(**given)  # type: ignore[arg-type]  # click gives what request_options declare
    settings = options.settings()
    if detach:
        rows = asyncio.run(_submit(options, settings, request))
        _detach(options, settings, rows, jobs)
        return 0
    return asyncio.run(_run(options, settings, request, jobs))


async def _run(options: Options, settings: Settings, request: RunRequest, jobs: int | None) -> int:
    async with options.open(settings) as waist:
        rows = await waist.submit(request)
        progress = progress_for(options)
        stream = sys.stderr if options.json else sys.stdout
        for row in rows:
            progress.say(headline(row, options.style(stream)))
        reports, code = await Carrier(waist, options, progress, jobs=jobs).carry([str(row.number) for row in rows])
        await tell(waist, options, reports)
        return code


async def _submit(options: Options, settings: Settings, request: RunRequest) -> list[RunRow]:
    async with options.open(settings) as waist:
        return await waist.submit(request)


def _detach(options: Options, settings: Settings, rows: list[RunRow], jobs: int | None) -> None:
    """Start a process of its own session for each run, and say how to find it again."""
    for row in rows:
        log = settings.home / "logs" / "detached" / f"run-{row.number}.log"
        words = [sys.executable, "-m", "stretto.doors.cli", "--home", str(settings.home)]
        if options.config is not None:
            words += ["--config", str(options.config.absolute())]
        words += ["resume", str(row.number), *([] if jobs is None else ["--jobs", str(jobs)])]
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as out:
                subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=Path("/"), start_new_session=True
                )
        except OSError as error:
            hint = f"carry run {row.number} on with `stretto resume {row.number}`"
            raise InputError(f"can't start in the background: {error.strerror}", hint=hint) from error
        if not options.json:
            say(str(row.number))
        if not options.json and not options.quiet:
            say(f"in the background; see `stretto report {row.number}`, its own output is in {log}", err=True)
    if options.json:
        say(json.dumps([row_to_json(row) for row in rows], ensure_ascii=False))
