"""`stretto schema`."""

from __future__ import annotations

import json

import click

from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import say


@declare("schema", example="stretto schema > pipeline.schema.json")
@click.option("--report", is_flag=True, help="The schema of a report's JSON instead.")
def command(report: bool) -> None:
    """Print the JSON Schema of pipeline.yml or of a report.

    Editors with a YAML language server complete and check pipeline.yml with it.
    """
    if report:
        from stretto.reports import schema as reports

        data = reports.load()
    else:
        from stretto.definitions import schema

        data = schema()
    say(json.dumps(data, indent=2, ensure_ascii=False))
