"""`stretto completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from stretto.core.errors import StrettoError
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import say


@declare("completion", example='eval "$(stretto completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete stretto's commands and options.

    Evaluate it in the shell's start file, or keep it where the shell looks for completions.
    """
    maker = get_completion_class(shell)
    if maker is None:
        raise StrettoError(f"click has no completion for {shell}")
    root = ctx.find_root()
    say(maker(root.command, {}, "stretto", "_STRETTO_COMPLETE").source())
