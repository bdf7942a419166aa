"""`stretto schema`."""

from __future__ import annotations

import json
import sys

import click

from stretto.definitions import schema
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import say
from stretto.reports.schema import text


@declare("schema", example="stretto schema > pipeline.schema.json")
@click.option("--report", is_flag=True, help="That of a report instead.")
def command(report: bool) -> None:
    """Print the JSON Schema of pipeline.yml, for editors, or that of a report."""
    if report:
        sys.stdout.write(text())
    else:
        say(json.dumps(schema(), indent=2, ensure_ascii=False))
