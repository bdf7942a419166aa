"""How commands are declared, found and described: lazily, with the shared options and one example each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from stretto.doors.cli.options import shared_options

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Command(click.Command):
    """A command with the shared options, which its help lists apart."""

    def __init__(self, *args: Any, example: str, **more: Any) -> None:
        super().__init__(*args, **{**more, "context_settings": HELP})
        self.example = example
        self.shared = shared_options()
        self.params += self.shared

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then those that every command takes."""
        own = [it for it in self.get_params(ctx) if isinstance(it, click.Option) and it not in self.shared]
        for title, params in (("Options", own), ("Options of every command", self.shared)):
            records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        write_example(self.example, formatter)


def write_example(example: str, formatter: click.HelpFormatter) -> None:
    """Write a section with one command line."""
    with formatter.section("Example"):
        formatter.write_text(example)


def command(name: str, *, example: str) -> Callable[[Callable[..., int | None]], Command]:
    """Declare a command; it returns its exit code, None for 0."""
    return click.command(name, cls=Command, example=example)


class ReaderGoneError(Exception):
    """Whoever read our output went away. No OSError, because click makes an exit code of its own of EPIPE."""


class LazyGroup(click.Group):
    """A group whose commands are `module.command`, imported when they are called.

    `modules` maps a command's name to its module (or `module:name`, where it has another name) and the first line of its help.
    """

    def __init__(self, *args: Any, modules: Mapping[str, tuple[str, str]], example: str, **more: Any) -> None:
        super().__init__(*args, context_settings=HELP, **more)
        self.modules = modules
        self.example = example
        self.params += shared_options()

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table, which is that of a newcomer's day."""
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command of this name."""
        if cmd_name not in self.modules:
            return None
        module, _, name = self.modules[cmd_name][0].partition(":")
        found: click.Command = getattr(import_module(module), name or "command")
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        name = args[0]
        if name not in self.modules and not name.startswith("-") and not ctx.resilient_parsing:
            close = get_close_matches(name, self.modules, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else "See 'stretto --help'."
            raise click.UsageError(f"No such command {name!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGoneError from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.modules.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        write_example(self.example, formatter)
