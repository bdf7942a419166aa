"""`stretto report`, at five levels: all runs, one pipeline, one run, one stage, one job."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from stretto.core.errors import InputError, NotFoundError
from stretto.core.ports import RunFilter, RunRow
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import UNLIMITED, Options
from stretto.doors.cli.reference import JobName, RunReference, find_run
from stretto.reports import text
from stretto.reports.model import Report, to_json
from stretto.reports.row import row_to_json
from stretto.reports.terminal import Style

PAGE: Final = 500
"""How many runs are read at once."""


@declare("report", example="stretto report latest --format junit -o report.xml")
@click.argument("run", required=False, type=RunReference())
@click.option("--pipeline", metavar="NAME", help="All runs of one pipeline.")
@click.option("--stage", metavar="NAME", help="One stage of the run.")
@click.option("--job", metavar="NAME", type=JobName(), help="One job of the run, with its attempts.")
@click.option("--format", "kind", type=click.Choice(["text", "json", "junit", "html"]), help="Default: text.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to a file.")
@click.pass_obj
def command(
    options: Options,
    run: str | None,
    pipeline: str | None,
    stage: str | None,
    job: str | None,
    kind: str | None,
    output: Path | None,
) -> None:
    """Show what became of a run, a stage or a job.

    RUN is a number, an id or `latest`; without it, all runs are listed. Exits with 0 whatever became of the run.
    """
    kind = kind or ("json" if options.json else "text")
    style = options.style(sys.stdout) if output is None else Style(columns=UNLIMITED)
    if stage is not None and job is not None:
        raise InputError("--stage and --job can't go together", hint="a job is in one stage: --job is enough")
    if run is None:
        if stage or job or kind in ("junit", "html"):
            raise InputError("which run?", hint="name it by number, id or `latest`")
        document = _listing(options, pipeline, kind, style)
    else:
        if pipeline:
            raise InputError("--pipeline lists the runs of a pipeline; with RUN it has no meaning")
        document = render(asyncio.run(_report(options, run)), kind, style, stage=stage, job=job)
    _write(document, output)


def render(report: Report, kind: str, style: Style, *, stage: str | None = None, job: str | None = None) -> str:
    """Return the report (or the part of it that is about one stage or job) in one of the formats."""
    if job is not None or stage is not None:
        part = text.job(report, job, style) if job is not None else text.stage(report, str(stage), style)
        if kind == "text":
            return part
        report = _narrow(report, stage, job)
    if kind == "text":
        return text.run(report, style)
    if kind == "junit":
        from stretto.reports import junit

        return junit.render(report)
    if kind == "html":
        from stretto.reports import html

        return html.render(report)
    return json.dumps(to_json(report), ensure_ascii=False) + "\n"


def _narrow(report: Report, stage: str | None, job: str | None) -> Report:
    """Return the report with nothing but this stage or job; the run itself and its counts stay."""
    stages = [
        replace(each, jobs=tuple(one for one in each.jobs if job in (None, one.name)))
        for each in report.stages
        if stage in (None, each.name)
    ]
    return replace(report, stages=tuple(each for each in stages if each.jobs or job is None))


def _listing(options: Options, pipeline: str | None, kind: str, style: Style) -> str:
    rows = asyncio.run(_all_runs(options, pipeline))
    if pipeline is not None and not rows:
        raise NotFoundError(f"there is no run of a pipeline {pipeline!r}", hint="`stretto runs` lists all runs")
    if kind == "json":
        return json.dumps([row_to_json(row) for row in rows], ensure_ascii=False) + "\n"
    now = datetime.now(UTC)
    return text.runs(rows, style, now=now) if pipeline is None else text.pipeline(pipeline, rows, style, now=now)


async def _all_runs(options: Options, pipeline: str | None) -> list[RunRow]:
    rows: list[RunRow] = []
    before: int | None = None
    async with options.open() as waist:
        while page := await waist.list_runs(RunFilter(name=pipeline, before=before, limit=PAGE)):
            rows += page
            before = page[-1].number
    return rows


async def _report(options: Options, run: str) -> Report:
    async with options.open() as waist:
        return await waist.report(await find_run(waist, run))


def _write(document: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(document)
        return
    try:
        output.write_text(document, "utf-8")
    except OSError as error:
        raise InputError(f"can't write {output}: {error.strerror}") from error
