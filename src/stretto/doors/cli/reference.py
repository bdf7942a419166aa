"""How a command names a run: by number, id, or `latest`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import CompletionItem

from stretto.core.errors import NotFoundError, StrettoError
from stretto.doors.cli.options import Options

if TYPE_CHECKING:
    from stretto.waist import Waist

LATEST: Final = "latest"
COMPLETED_RUNS: Final = 20
"""How many runs a shell is offered."""


async def find_run(waist: Waist, run: str) -> str:
    """Return a reference that the waist knows; `latest` is the newest run."""
    from stretto.core.ports import RunFilter

    if run != LATEST:
        return run
    rows = await waist.list_runs(RunFilter(limit=1))
    if not rows:
        raise NotFoundError("there are no runs yet", hint="start one with `stretto run`")
    return rows[0].id


class RunReference(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on only
    """A run's number, id or `latest`; completes the newest runs' numbers."""

    name = "run"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer `latest` and the newest runs; a shell is told nothing where they can't be read."""
        try:
            rows = asyncio.run(_newest(ctx.ensure_object(Options)))
        except StrettoError:
            return []
        items = [CompletionItem(LATEST), *(CompletionItem(str(row), help=told) for row, told in rows)]
        return [item for item in items if item.value.startswith(incomplete)]


class JobName(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on only
    """A job of the run named before it; completes their names."""

    name = "job"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the jobs of the run that the command line names."""
        try:
            names = asyncio.run(_jobs(ctx.ensure_object(Options), ctx.params.get("run") or LATEST))
        except StrettoError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


async def _newest(options: Options) -> list[tuple[int, str]]:
    from stretto.core.ports import RunFilter

    async with options.open() as waist:
        rows = await waist.list_runs(RunFilter(limit=COMPLETED_RUNS))
    return [(row.number, f"{row.name}: {row.status}") for row in rows]


async def _jobs(options: Options, run: str) -> list[str]:
    async with options.open() as waist:
        report = await waist.report(await find_run(waist, run))
    return [job.name for _, job in report.jobs()]
