"""`stretto runs`."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from stretto.core.ports import RunFilter, RunRow
from stretto.core.states import Status
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.place import find_top
from stretto.doors.cli.style import style_for
from stretto.reports import text
from stretto.reports.model import format_time

DEFAULT_LIMIT: Final = 20
"""About a screen."""


@declare("runs", example="stretto runs --status failed --branch main")
@click.option(
    "--status",
    "statuses",
    type=click.Choice([it.value for it in Status]),
    multiple=True,
    help="Status; may be repeated.",
)
@click.option("--branch", metavar="NAME", help="Branch.")
@click.option("--repository", metavar="PATH|URL", help="Repository, as `run` was given it.")
@click.option("--pipeline", metavar="NAME", help="Pipeline.")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="How many at most.")
@click.option("--before", type=int, metavar="NUMBER", help="Only older ones than the run of this number.")
@click.pass_obj
def command(
    options: Options,
    statuses: tuple[str, ...],
    branch: str | None,
    repository: str | None,
    pipeline: str | None,
    limit: int,
    before: int | None,
) -> None:
    """List runs, newest first."""
    which = RunFilter(
        statuses=frozenset(map(Status, statuses)) or None,
        name=pipeline,
        repository=_stored_name(repository),
        branch=branch,
        before=before,
        limit=limit,
    )
    rows = asyncio.run(_list(options, which))
    if options.json:
        say(json.dumps([row_to_json(row) for row in rows], indent=2, ensure_ascii=False))
        return
    sys.stdout.write(text.runs(rows, style_for(options, sys.stdout), now=datetime.now(UTC)))


def row_to_json(row: RunRow) -> dict[str, Any]:
    """Return what is known of a run as JSON data; the same keys as `run` has in a report, where it has them."""
    data = {field.name: getattr(row, field.name) for field in fields(row)}
    return {name: format_time(value) if isinstance(value, datetime) else value for name, value in data.items()}


async def _list(options: Options, which: RunFilter) -> list[RunRow]:
    async with options.open() as waist:
        return await waist.list_runs(which)


def _stored_name(repository: str | None) -> str | None:
    """Return the repository as runs have it: a directory by the top of its working tree."""
    if repository is None or not Path(repository).is_dir():
        return repository
    path = Path(repository)
    return str((find_top(path) or path).resolve())
