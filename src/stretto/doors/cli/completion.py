"""`stretto completion`."""

from __future__ import annotations

import json

import click
from click.shell_completion import get_completion_class

from stretto.core.errors import StrettoError
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say


@declare("completion", example="stretto completion bash >> ~/.bashrc")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    Commands, options, run numbers and job names are completed.
    """
    maker = get_completion_class(shell)
    if maker is None:
        raise StrettoError(f"click has no completion for {shell}")
    # `source_template` is used as it is: `source()` would start bash to ask for its version
    script = maker(ctx.find_root().command, {}, "stretto", "_STRETTO_COMPLETE")
    text = script.source_template % script.source_vars()
    say(json.dumps({"shell": shell, "script": text}) if ctx.ensure_object(Options).json else text)
