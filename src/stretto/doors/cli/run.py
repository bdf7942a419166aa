"""`stretto run`."""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import click

from stretto.core.errors import StrettoError
from stretto.core.ports import RunRow
from stretto.doors.cli.carry import Carrier, progress_for, tell
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.progress import Progress, headline
from stretto.doors.cli.request import read_request, request_options
from stretto.reports.row import row_to_json
from stretto.settings import Settings
from stretto.waist import RunRequest, Waist

CLAIM_WAIT_S: Final = 2.0
"""How long `--detach` waits for the process in the background to take the run."""
CLAIM_LOOK_S: Final = 0.05


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
        asyncio.run(_detach(options, settings, request, jobs))
        return 0
    return asyncio.run(_run(options, settings, request, jobs))


async def _run(options: Options, settings: Settings, request: RunRequest, jobs: int | None) -> int:
    async with options.open(settings) as waist:
        changes = asyncio.create_task(waist.has_changes(request), name="look for changes")
        try:
            rows = await _submit(waist, request)
            progress = progress_for(options, runs=len(rows))
            stream = sys.stderr if options.json else sys.stdout
            for row in rows:
                progress.say(headline(row, options.style(stream)))
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
            told = f"carry it on with `stretto resume {row.number}`, or drop it with `stretto cancel {row.number}`"
            say(f"run {row.number} is stored and was not started; {told}", err=True)
        raise


def _tell_changes(progress: Progress, changes: asyncio.Task[bool]) -> None:
    if not changes.cancelled() and changes.exception() is None and changes.result():
        progress.say("the working tree has changes that are not part of the run; --working-tree runs them too")


class BackgroundError(StrettoError):
    """A run could not be handed to a process in the background."""

    exit_code = 1


async def _detach(options: Options, settings: Settings, request: RunRequest, jobs: int | None) -> None:
    """Start a process of its own session for each run, and say how to find it again."""
    async with options.open(settings) as waist:
        rows = await _submit(waist, request)
        started = [_start(options, settings, row.number, jobs) for row in rows]
        left = [await _left_alone(waist, row, process) for row, process in zip(rows, started, strict=True)]
    if options.json:
        say(json.dumps([row_to_json(row) for row in rows], ensure_ascii=False))
    for row, failed in zip(rows, left, strict=True):
        if not options.json:
            say(str(row.number))
        if not (failed or options.json or options.quiet):
            log = _log_of(settings, row.number)
            say(f"in the background; see `stretto report {row.number}`, its own output is in {log}", err=True)
    if lost := [row.number for row, failed in zip(rows, left, strict=True) if failed]:
        raise BackgroundError(
            f"the process in the background of run {', '.join(map(str, lost))} ended at once",
            hint=f"see {', '.join(str(_log_of(settings, number)) for number in lost)}; "
            f"carry on with {', '.join(f'`stretto resume {number}`' for number in lost)}",
        )


def _log_of(settings: Settings, number: int) -> Path:
    return settings.home / "logs" / "detached" / f"run-{number}.log"


def _start(options: Options, settings: Settings, number: int, jobs: int | None) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "stretto.doors.cli", "--home", str(settings.home)]
    if options.config is not None:
        words += ["--config", str(options.config.absolute())]
    words += ["resume", str(number), *([] if jobs is None else ["--jobs", str(jobs)])]
    log = _log_of(settings, number)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            return subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=Path("/"), start_new_session=True
            )
    except OSError as error:
        hint = f"carry run {number} on with `stretto resume {number}`"
        raise BackgroundError(f"can't start in the background: {error.strerror}", hint=hint) from error


async def _left_alone(waist: Waist, row: RunRow, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the process has claimed the run, for a moment at most; say whether it died instead."""
    end = time.monotonic() + CLAIM_WAIT_S
    while time.monotonic() < end:
        gone = process.poll() is not None
        if (await waist.find_run(row.id)).owner is not None:
            return False
        if gone:
            return True
        await asyncio.sleep(CLAIM_LOOK_S)
    return False
