"""`stretto runs`."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from stretto.core.ports import RunFilter, RunRow
from stretto.core.states import Status
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.place import find_top
from stretto.reports import text
from stretto.reports.row import row_to_json


@declare("runs", example="stretto runs --status failed --limit 5")
@click.option("--status", "statuses", multiple=True, type=click.Choice([s.value for s in Status]), help="Repeatable.")
@click.option("--pipeline", metavar="NAME", help="Runs of this pipeline.")
@click.option("--branch", metavar="NAME", help="Runs on this branch.")
@click.option("--repository", metavar="PATH|URL", help="Runs of this repository, as `run` took it.")
@click.option("--before", type=click.IntRange(min=1), metavar="RUN", help="Runs with a lower number.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@click.pass_obj
def command(
    options: Options,
    statuses: tuple[str, ...],
    pipeline: str | None,
    branch: str | None,
    repository: str | None,
    before: int | None,
    limit: int,
) -> None:
    """List runs, newest first."""
    which = RunFilter(
        statuses=frozenset(map(Status, statuses)) or None,
        name=pipeline,
        branch=branch,
        repository=_recorded(repository),
        before=before,
        limit=limit,
    )
    rows = asyncio.run(_list(options, which))
    if options.json:
        say(json.dumps([row_to_json(row) for row in rows], ensure_ascii=False))
    else:
        say(text.runs(rows, options.style(sys.stdout), now=datetime.now(UTC)).rstrip("\n"))


async def _list(options: Options, which: RunFilter) -> list[RunRow]:
    async with options.open() as waist:
        return await waist.list_runs(which)


def _recorded(repository: str | None) -> str | None:
    """Return the repository as runs have it on record: a directory by the top of its working tree."""
    if repository is None or not Path(repository).is_dir():
        return repository
    path = Path(repository)
    return str((find_top(path) or path).resolve())
