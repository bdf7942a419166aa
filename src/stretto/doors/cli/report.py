"""`stretto report`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import click

from stretto.core.errors import InputError, NotFoundError
from stretto.core.ports import RunFilter, RunRow
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options
from stretto.doors.cli.reference import resolve_run
from stretto.doors.cli.runs import row_to_json
from stretto.doors.cli.style import PLAIN, style_for
from stretto.reports import html, junit, text
from stretto.reports.model import Report, to_json
from stretto.reports.terminal import Style
from stretto.waist import Waist

PAGE: Final = 500
"""How many runs are read at once."""


@declare("report", example="stretto report latest --job build")
@click.argument("run", required=False)
@click.option("--stage", metavar="NAME", help="Only this stage.")
@click.option("--job", metavar="NAME", help="Only this job, with its attempts and artifacts.")
@click.option("--pipeline", metavar="NAME", help="The runs of this pipeline, summed up.")
@click.option("--format", "form", type=click.Choice(["text", "json", "junit", "html"]), help="Default: text.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to this file.")
@click.pass_obj
def command(
    options: Options,
    run: str | None,
    stage: str | None,
    job: str | None,
    pipeline: str | None,
    form: str | None,
    output: Path | None,
) -> None:
    """Show what became of a run, a stage or a job; without RUN, of all runs.

    RUN is a number, an id or `latest`. --json means --format json.
    """
    form = form or ("json" if options.json else "text")
    if run is None and (stage or job):
        raise InputError("--stage and --job are parts of a run", hint="name it: `stretto report RUN`, or `latest`")
    if run is not None and pipeline:
        raise InputError("--pipeline sums up all runs of a pipeline, not one", hint="leave out RUN or --pipeline")
    if stage and job:
        raise InputError("--stage and --job can't be used together", hint="a job is in one stage: --job is enough")
    if run is None and form in ("junit", "html"):
        raise InputError(f"--format {form} shows one run", hint="name it: `stretto report RUN`, or `latest`")
    style = style_for(options, sys.stdout) if output is None else PLAIN
    if run is None:
        told = _tell_runs(asyncio.run(_list(options, pipeline)), pipeline, form, style)
    else:
        told = _tell_run(asyncio.run(_load(options, run)), stage, job, form, style)
    _write(told, output)


def restrict(report: Report, stage: str | None, job: str | None) -> Report:
    """Return the report with nothing but this stage or job in its stages; NotFoundError if there is none."""
    if stage is not None:
        stages = [it for it in report.stages if it.name == stage]
        known = [it.name for it in report.stages]
    elif job is not None:
        stages = [
            replace(it, jobs=tuple(found for found in it.jobs if found.name == job))
            for it in report.stages
            if any(found.name == job for found in it.jobs)
        ]
        known = [found.name for _, found in report.jobs()]
    else:
        return report
    if not stages:
        kind, name = ("stage", stage) if stage is not None else ("job", job or "")
        close = get_close_matches(name or "", known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(map(repr, known[:10]))}"
        raise NotFoundError(f"run {report.run.number} has no {kind} {name!r}", hint=hint)
    return replace(report, stages=tuple(stages))


_FORMS: Final[dict[str, Callable[[Report], str]]] = {
    "json": lambda report: json.dumps(to_json(report), indent=2, ensure_ascii=False) + "\n",
    "junit": junit.render,
    "html": html.render,
}


def _tell_run(report: Report, stage: str | None, job: str | None, form: str, style: Style) -> str:
    if form != "text":
        return _FORMS[form](restrict(report, stage, job))
    if stage is not None:
        return text.stage(report, stage, style)
    return text.run(report, style) if job is None else text.job(report, job, style)


def _tell_runs(rows: list[RunRow], pipeline: str | None, form: str, style: Style) -> str:
    if form == "json":
        return json.dumps([row_to_json(row) for row in rows], indent=2, ensure_ascii=False) + "\n"
    now = datetime.now(UTC)
    return text.runs(rows, style, now=now) if pipeline is None else text.pipeline(pipeline, rows, style, now=now)


async def _load(options: Options, run: str) -> Report:
    async with options.open() as waist:
        return await waist.report(await resolve_run(waist, run))


async def _list(options: Options, pipeline: str | None) -> list[RunRow]:
    async with options.open() as waist:
        rows = await _all(waist, pipeline)
    if pipeline is not None and not rows:
        raise NotFoundError(f"there is no run of a pipeline {pipeline!r}", hint="`stretto runs` lists all runs")
    return rows


async def _all(waist: Waist, pipeline: str | None) -> list[RunRow]:
    rows: list[RunRow] = []
    before: int | None = None
    while page := await waist.list_runs(RunFilter(name=pipeline, before=before, limit=PAGE)):
        rows += page
        before = page[-1].number
    return rows


def _write(told: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(told)
        return
    try:
        output.write_text(told, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InputError(f"{output} can't be written: {(error.strerror or str(error)).lower()}") from error
