"""`stretto runs`."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from stretto.core.ports import RunFilter, RunRow
from stretto.core.states import Status
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.place import find_top
from stretto.reports import text
from stretto.reports.model import format_time


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


def row_to_json(row: RunRow) -> dict[str, Any]:
    """Return the row as JSON data, with the keys of a report's `run`."""

    def time(at: datetime | None) -> str | None:
        return None if at is None else format_time(at.astimezone(UTC))

    took_s = (row.ended_at - row.started_at).total_seconds() if row.started_at and row.ended_at else None
    return {
        "number": row.number,
        "id": row.id,
        "kind": row.kind,
        "name": row.name,
        "status": row.status.value,
        "reason": row.reason,
        "message": row.message,
        "repository": row.repository,
        "branch": row.branch,
        "commit": row.commit,
        "commit_message": row.commit_message,
        "created_at": time(row.created_at),
        "started_at": time(row.started_at),
        "ended_at": time(row.ended_at),
        "duration_s": took_s,
    }
