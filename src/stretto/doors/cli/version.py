"""`stretto version`."""

from __future__ import annotations

import click

from stretto.doors.cli.command import command as declare
from stretto.doors.cli.main import print_version
from stretto.doors.cli.options import Options


@declare("version", example="stretto version")
@click.pass_obj
def command(options: Options) -> None:
    """Print the version."""
    print_version(options)
