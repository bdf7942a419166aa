"""`stretto artifacts`: list what jobs left, or copy it out."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import click

from stretto.doors.cli.command import command as declare
from stretto.doors.cli.download import Done, Download, download, plan_download
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.reference import JobName, RunReference, find_run
from stretto.reports.human import count, size
from stretto.reports.terminal import Cell, Style
from stretto.waist import StoredArtifact, artifact_to_json


@declare("artifacts", example="stretto artifacts latest --download out")
@click.argument("run", type=RunReference())
@click.option("--job", metavar="NAME", type=JobName(), help="Those of this job only.")
@click.option("--download", "directory", type=click.Path(path_type=Path), metavar="DIR", help="Copy them into DIR.")
@click.pass_obj
def command(options: Options, run: str, job: str | None, directory: Path | None) -> None:
    """List or download what a run's jobs left.

    Files come to DIR/JOB/PATH, with --job to DIR/PATH. Where a file is there already and differs, nothing is written; links
    that lead out of DIR are left out.
    """
    asyncio.run(_artifacts(options, run, job, directory))


async def _artifacts(options: Options, run: str, job: str | None, directory: Path | None) -> None:
    async with options.open() as waist:
        stored = await waist.artifacts(await find_run(waist, run), job=job)
        if directory is not None:
            plan = plan_download(stored, directory, by_job=job is None)
            done = await download(waist, plan, directory)
    if directory is None:
        _tell(options, stored)
    else:
        _tell_done(options, done, directory)


def _tell(options: Options, stored: list[StoredArtifact]) -> None:
    if options.json:
        say(json.dumps([artifact_to_json(it) for it in stored], ensure_ascii=False))
        return
    style = options.style(sys.stdout)
    rows = [[Cell(style.clean(it.job)), Cell(size(it.artifact.size_bytes)), Cell(_name(it, style))] for it in stored]
    for line in style.table(("Job", "Size", "Artifact"), rows, right=frozenset({1})) or ["No artifacts."]:
        say(line)


def _tell_done(options: Options, done: list[tuple[Download, Done]], directory: Path) -> None:
    if options.json:
        rows = [artifact_to_json(it.stored) | {"file": str(it.target), "done": what.value} for it, what in done]
        say(json.dumps(rows, ensure_ascii=False))
        return
    style = options.style(sys.stdout)
    for it, what in done:
        if what is Done.LEFT_OUT:
            say(
                f"left out: {style.clean(str(it.target))} is a link that leads out of {style.clean(str(directory))}",
                err=True,
            )
        elif options.verbose:
            say(f"{what.value}: {style.clean(str(it.target))}")
    if options.quiet:
        return
    there = [it for it, what in done if what is not Done.LEFT_OUT]
    same = sum(what is Done.UNCHANGED for _, what in done)
    total = size(sum(it.stored.artifact.size_bytes for it in there))
    note = f"; {same} of them were there already" if same else ""
    say(f"{count(len(there), 'file')}, {total}, in {style.clean(str(directory))}{note}")


def _name(it: StoredArtifact, style: Style) -> str:
    """Return the path as `ls -F` marks it: a program with `*`, a link with what it says."""
    link = "" if it.artifact.link is None else f" -> {it.artifact.link}"
    return style.clean(f"{it.artifact.path}{link}") + "*" * it.artifact.executable
