"""`stretto artifacts`."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from stretto.doors.cli.command import command as declare
from stretto.doors.cli.download import Done, Download, download, plan_download
from stretto.doors.cli.options import Options, columns, say
from stretto.doors.cli.reference import resolve_run
from stretto.doors.cli.text import harmless, one_line, table
from stretto.reports import human
from stretto.waist import StoredArtifact


@declare("artifacts", example="stretto artifacts latest --job build --download out")
@click.argument("run")
@click.option("--job", metavar="NAME", help="Only those of this job.")
@click.option("--download", "directory", type=click.Path(path_type=Path), metavar="DIR", help="Copy them into DIR.")
@click.pass_obj
def command(options: Options, run: str, job: str | None, directory: Path | None) -> None:
    """List what a run's jobs left, or download it.

    RUN is a number, an id or `latest`. Files come to DIR/JOB/PATH, with --job to DIR/PATH; a file that is there already and
    differs is not touched, and then none is.
    """
    stored = asyncio.run(_list(options, run, job))
    if directory is None:
        _tell(options, stored)
        return
    _tell_done(options, download(plan_download(stored, directory, by_job=job is None), directory))


async def _list(options: Options, run: str, job: str | None) -> list[StoredArtifact]:
    async with options.open() as waist:
        return await waist.artifacts(await resolve_run(waist, run), job=job)


def _to_json(it: StoredArtifact) -> dict[str, Any]:
    return {"job": it.job, "attempt": it.attempt, **asdict(it.artifact)}


def _tell(options: Options, stored: list[StoredArtifact]) -> None:
    if options.json:
        say(json.dumps([_to_json(it) for it in stored], indent=2, ensure_ascii=False))
    elif not stored:
        say("No artifacts.")
    else:
        rows = [(one_line(it.job), human.size(it.artifact.size_bytes), _path(it)) for it in stored]
        for line in table(
            ("Job", "Size", "Path"), rows, columns=columns(sys.stdout), paint=options.paint(sys.stdout), status=None
        ):
            say(line)


def _tell_done(options: Options, done: list[tuple[Download, Done]]) -> None:
    if options.json:
        rows = [{**_to_json(it.stored), "file": str(it.target), "done": what.value} for it, what in done]
        say(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for it, what in done:
        note = " (a link that leads out of the directory)" if what is Done.LEFT_OUT else ""
        if not options.quiet or what is Done.LEFT_OUT:
            say(f"{what.value.replace('_', ' ')}  {harmless(str(it.target))}{note}")
    if not done:
        say("No artifacts.")


def _path(it: StoredArtifact) -> str:
    link = "" if it.artifact.link is None else f" -> {harmless(it.artifact.link)}"
    return f"{harmless(it.artifact.path)}{link}{'*' if it.artifact.executable else ''}"
