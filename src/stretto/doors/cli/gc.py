"""`stretto gc`."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Final

import click

from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say
from stretto.reports.human import count, size
from stretto.waist import Swept

_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


class Size(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on only
    """A number of bytes such as 500M or 1.5G (steps of 1024)."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes."""
        found = re.fullmatch(
            r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?)(?:i?B)?", str(value).strip(), re.IGNORECASE | re.ASCII
        )
        if found is None:
            self.fail(f"{value!r} is not a size; write 500M or 20G", param, ctx)
        return int(float(found[1]) * _UNITS[found[2].upper()])


@declare("gc", example="stretto gc --keep-days 7 --max-size 5G")
@click.option(
    "--keep-days", type=click.FloatRange(min=0), metavar="N", help="Keep runs this young. Default: keep.days."
)
@click.option(
    "--max-size", type=Size(), metavar="SIZE", help="Keep trees and mirrors up to this. Default: keep.max_gb."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.pass_obj
def command(options: Options, keep_days: float | None, max_size: int | None, dry_run: bool) -> None:
    """Delete old runs, trees and mirrors.

    Runs that are not over are never touched, nor what belongs to them.
    """
    swept = asyncio.run(_sweep(options, keep_days, max_size, dry_run))
    if options.json:
        data = {"runs": swept.runs, "attempts": swept.attempts, "freed_bytes": swept.freed_bytes, "dry_run": dry_run}
        say(json.dumps(data))
    elif not options.quiet:
        what = f"{count(swept.runs, 'run')} and {count(swept.attempts, 'abandoned attempt')}"
        say(f"would delete {what}" if dry_run else f"deleted {what}; freed {size(swept.freed_bytes)}")


async def _sweep(options: Options, keep_days: float | None, max_bytes: int | None, dry_run: bool) -> Swept:
    async with options.open() as waist:
        return await waist.gc(keep_days=keep_days, max_bytes=max_bytes, dry_run=dry_run)
