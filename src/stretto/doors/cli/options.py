"""What every command takes, and what it gets from that: settings, colours, the waist.

The same options may stand before and after the command's name. Nothing heavy is imported here: a command that opens no store
must not pay for one.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from stretto.reports.terminal import Style
    from stretto.settings import Settings
    from stretto.waist import Waist

    Opener = Callable[[Settings], AbstractAsyncContextManager[Waist]]


UNLIMITED = 1_000_000
"""Columns of a stream that is no terminal: nothing is cut there."""


COLLECT_EVERY = (700, 10, 10)
"""How often cycles are looked for once modules are loaded: Python's default, which `stretto.__main__` raises for the start."""


class Options:
    """The options that every command takes. `opener` stands in for `server.open_waist` in tests."""

    def __init__(self, opener: Opener | None = None) -> None:
        self.json = False
        self.quiet = False
        self.verbose = False
        self.color = "auto"
        self.home: Path | None = None
        self.config: Path | None = None
        self.server: str | None = None
        self._opener = opener

    def settings(self) -> Settings:
        """Return the settings with what the command line says about them."""
        from stretto.settings import load

        environment = dict(os.environ)
        if self.home is not None:
            environment["STRETTO_HOME"] = str(self.home.absolute())
        if self.config is not None:
            environment["STRETTO_CONFIG"] = str(self.config)
        if self.server is not None:
            environment["STRETTO_SERVER"] = self.server
        elif self.home is not None:
            environment["STRETTO_SERVER"] = ""  # who names a home here means it, whatever server is set elsewhere
        return load(environment)

    def open(self, settings: Settings | None = None) -> AbstractAsyncContextManager[Waist]:
        """Return the waist, to be entered."""
        settings = settings or self.settings()
        if self._opener is not None:
            return self._opener(settings)
        from stretto.doors.cli.journal import listen
        from stretto.doors.cli.server import open_waist

        listen(quiet=self.quiet, verbose=self.verbose)
        gc.set_threshold(*COLLECT_EVERY)
        return open_waist(settings)

    def style(self, stream: TextIO) -> Style:
        """Return how to write to this stream: in colours on a terminal, unless NO_COLOR or `--color` say otherwise."""
        from shutil import get_terminal_size

        from stretto.reports.terminal import Style

        color = self.color == "always"
        if self.color == "auto":
            color = is_terminal(stream) and not os.environ.get("NO_COLOR")
        encoding = (getattr(stream, "encoding", None) or "ascii").lower()
        width = get_terminal_size().columns if stream.isatty() else UNLIMITED
        return Style(color=color, unicode="utf" in encoding, columns=width)


def is_terminal(stream: TextIO) -> bool:
    """Say whether the stream is a terminal that understands more than plain text."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def say(text: str = "", *, err: bool = False) -> None:
    """Print a line and flush it, so that a reader at the other end of a pipe sees it now."""
    stream = sys.stderr if err else sys.stdout
    stream.write(text + "\n")
    stream.flush()


def _take(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and not ctx.resilient_parsing:
        setattr(ctx.ensure_object(Options), str(param.name), value)


def shared_options() -> list[click.Option]:
    """Return the options of every command; None means that it was not given here."""

    def option(*names: str, **more: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_take, default=None, **more)

    path = click.Path(path_type=Path)
    return [
        option("--json", is_flag=True, help="Print JSON for machines; errors too."),
        option("-q", "--quiet", is_flag=True, help="Print results and errors only."),
        option("-v", "--verbose", is_flag=True, help="Print more."),
        option("--home", type=path, metavar="DIR", help="Where state is kept (STRETTO_HOME)."),
        option("--server", metavar="URL", help="The server to talk to, or `none` (STRETTO_SERVER)."),
        option("--config", type=path, metavar="FILE", help="The settings file (STRETTO_CONFIG)."),
        option("--color", type=click.Choice(["auto", "always", "never"]), help="Colours; auto: on a terminal."),
    ]
