"""`stretto gc`."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import asdict
from typing import Any, Final

import click

from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say
from stretto.reports import human
from stretto.waist import Swept

UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
"""Powers of 1024, as du and the setting `keep.max_gb` have them."""


class Size(click.ParamType[int]):
    """A number of bytes, such as 20G."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return how many bytes `value` means."""
        match = re.fullmatch(
            r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?)(?:i?B)?", str(value).strip(), re.IGNORECASE | re.ASCII
        )
        if match is None:
            self.fail(f"{value!r} is not a size; write one like 500M or 20G", param, ctx)
        return int(float(match[1]) * UNITS[match[2].upper()])


@declare("gc", example="stretto gc --keep-days 14 --max-size 20G")
@click.option(
    "--keep-days", type=click.FloatRange(0), metavar="N", help="Keep runs that ended less ago (STRETTO_KEEP_DAYS)."
)
@click.option(
    "--max-size", type=Size(), metavar="SIZE", help="Keep that much of mirrors and trees (STRETTO_KEEP_MAX_GB)."
)
@click.option("--dry-run", is_flag=True, help="Delete nothing; tell how much would go.")
@click.pass_obj
def command(options: Options, keep_days: float | None, max_size: int | None, dry_run: bool) -> None:
    """Delete runs that ended long ago with their logs and artifacts, what jobs left behind, old trees and mirrors."""
    swept = asyncio.run(_sweep(options, keep_days, max_size, dry_run))
    if options.json:
        say(json.dumps({**asdict(swept), "dry_run": dry_run}))
    elif dry_run:
        say(f"would delete {_what(swept)}")
    else:
        say(f"deleted {_what(swept)}; freed {human.size(swept.freed_bytes)}")


async def _sweep(options: Options, keep_days: float | None, max_size: int | None, dry_run: bool) -> Swept:
    settings = options.settings()
    async with options.open(settings) as waist:
        return await waist.gc(
            keep_days=settings.keep.days if keep_days is None else keep_days,
            max_bytes=int(settings.keep.max_gb * UNITS["G"]) if max_size is None else max_size,
            dry_run=dry_run,
        )


def _what(swept: Swept) -> str:
    return f"{human.count(swept.runs, 'run')} and {human.count(swept.attempts, 'abandoned attempt')}"
