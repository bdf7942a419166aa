"""`stretto run`: the main job."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import click

from stretto.core.ports import RunRow
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.conducting import conduct
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.request import make_request, request_options
from stretto.settings import Settings


@declare("run", example="stretto run -b main --set default.image=python:3.12")
@request_options
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="How many jobs run at once.")
@click.option("--detach", is_flag=True, help="Print the run's number and let it go on in the background.")
@click.pass_obj
def command(options: Options, /, jobs: int | None, detach: bool, **values: Any) -> int:
    """Run the pipeline of a repository: the commit of its branch, in containers or processes.

    REPOSITORY is a path or URL; without it, the repository of the current directory is meant.
    """
    return asyncio.run(_run(options, jobs, detach, values))


async def _run(options: Options, jobs: int | None, detach: bool, values: dict[str, Any]) -> int:
    settings = options.settings()
    request = make_request(**values)
    async with options.open(settings) as waist:
        rows = await waist.submit(request)
        if detach:
            for row in rows:
                _detach(row, settings, jobs)
                say(str(row.number) if not options.json else f'{{"number": {row.number}, "id": "{row.id}"}}')
            return 0
        code = 0
        for row in rows:
            code = max(code, await conduct(waist, row, options, jobs=jobs))
        return code


def _detach(row: RunRow, settings: Settings, jobs: int | None) -> None:
    """Let a process of its own session carry the run on; what it says goes to a file beside the logs."""
    words = [sys.executable, "-m", "stretto.doors.cli", "--home", str(settings.home), "resume", str(row.number)]
    if jobs is not None:
        words += ["--jobs", str(jobs)]
    place = settings.home / "logs" / f"detached-{row.number}.txt"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("ab") as out:
        subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd="/",
            env=dict(os.environ),
        )
