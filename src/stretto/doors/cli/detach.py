"""Leaves runs to others: to a process of their own in the background, or to the server that has them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from stretto.core.errors import InputError, StrettoError
from stretto.core.ports import RunRow
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.server import NO_SERVER
from stretto.reports.row import row_to_json
from stretto.settings import Settings
from stretto.waist import Waist

CLAIM_WAIT_S: Final = 2.0
"""How long it is waited for that the process in the background takes the run."""
CLAIM_LOOK_S: Final = 0.05


class BackgroundError(StrettoError):
    """A run could not be handed to a process in the background."""

    exit_code = 1


def refuse_jobs(waist: Waist, jobs: int | None) -> None:
    """Refuse `--jobs` where it would have no effect."""
    if jobs is not None and waist.is_server:
        raise InputError("how many jobs run at once is the server's to say", hint="leave out --jobs")


async def detach(waist: Waist, options: Options, settings: Settings, rows: Sequence[RunRow], jobs: int | None) -> None:
    """Leave the runs to others, and say how to find them again."""
    left = [False] * len(rows) if waist.is_server else await _leave(waist, options, settings, rows, jobs)
    if options.json:
        say(json.dumps([row_to_json(row) for row in rows], ensure_ascii=False))
    for row, failed in zip(rows, left, strict=True):
        if not options.json:
            say(str(row.number))
        if not (failed or options.json or options.quiet):
            where = "" if waist.is_server else f", its own output is in {_log_of(settings, row.number)}"
            who = "at the server" if waist.is_server else "in the background"
            say(f"{who}; see `stretto report {row.number}`{where}", err=True)
    if lost := [row.number for row, failed in zip(rows, left, strict=True) if failed]:
        raise BackgroundError(
            f"the process in the background of run {', '.join(map(str, lost))} ended at once",
            hint=f"see {', '.join(str(_log_of(settings, number)) for number in lost)}; "
            f"carry on with {', '.join(f'`stretto resume {number}`' for number in lost)}",
        )


async def _leave(
    waist: Waist, options: Options, settings: Settings, rows: Sequence[RunRow], jobs: int | None
) -> list[bool]:
    """Start a process of its own session for each run, and say of which ones it died at once."""
    started = [_start(options, settings, row.number, jobs) for row in rows]
    return [await _left_alone(waist, row, process) for row, process in zip(rows, started, strict=True)]


def _log_of(settings: Settings, number: int) -> Path:
    return settings.home / "logs" / "detached" / f"run-{number}.log"


def _start(options: Options, settings: Settings, number: int, jobs: int | None) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "stretto.doors.cli", "--home", str(settings.home), "--server", NO_SERVER]
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
