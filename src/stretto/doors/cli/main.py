"""The way in: the table of commands and the boundary at which every error becomes a message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from stretto import __version__
from stretto.doors.cli.command import LazyGroup, ReaderGoneError
from stretto.doors.cli.options import Options

if TYPE_CHECKING:
    from stretto.doors.cli.options import Opener

_HERE: Final = "stretto.doors.cli"

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "check": (f"{_HERE}.check", "Check pipeline files: all faults at once."),
    "plan": (f"{_HERE}.plan", "Show what would run, in which order, and why."),
    "run": (f"{_HERE}.run", "Run the pipeline of a repository."),
    "runs": (f"{_HERE}.runs", "List runs, newest first."),
    "report": (f"{_HERE}.report", "Show what became of a run, a stage or a job."),
    "logs": (f"{_HERE}.logs", "Print a job's output exactly as it was."),
    "cancel": (f"{_HERE}.cancel", "Cancel a run or one job of it."),
    "resume": (f"{_HERE}.resume", "Carry on a run whose process is gone."),
    "retry": (f"{_HERE}.retry", "Do a run that is over again."),
    "artifacts": (f"{_HERE}.artifacts", "List or download what a run's jobs left."),
    "gc": (f"{_HERE}.gc", "Delete old runs, trees and mirrors."),
    "login": (f"{_HERE}.login", "Keep the token for a server."),
    "logout": (f"{_HERE}.logout", "Forget the token for a server."),
    "db": (f"{_HERE}.db", "Look after the database of a server."),
    "serve": (f"{_HERE}.serve", "Run a server: its API, its conductor, or both."),
    "token": (f"{_HERE}.token", "Say who may use a server."),
    "queue": (f"{_HERE}.queue", "Look at the message queue of a server."),
    "hook": (f"{_HERE}.hook", "Let webhooks of forges start runs on a server."),
    "schedule": (f"{_HERE}.schedule", "Let a server run something at certain times."),
    "forge": (f"{_HERE}.forge", "Let a server tell forges how commits fared."),
    "schema": (f"{_HERE}.schema", "Print the JSON Schema of pipeline.yml or of a report."),
    "completion": (f"{_HERE}.completion", "Print the completion script for a shell."),
    "version": (f"{_HERE}.version", "Print the version."),
}


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        print_version(ctx.ensure_object(Options))
        ctx.exit()


def print_version(options: Options) -> None:
    """Print the version."""
    sys.stdout.write(f'{{"version": "{__version__}"}}\n' if options.json else f"stretto {__version__}\n")


@click.group("stretto", cls=LazyGroup, modules=COMMANDS, example="stretto run -b main")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Print the version.",
)
def stretto() -> None:
    """Run the pipelines of git repositories, durably.

    `stretto run` in a repository runs its pipeline.yml. `stretto COMMAND --help` tells of a command.
    """


def main(args: Sequence[str] | None = None, *, opener: Opener | None = None) -> int:
    """Run one command line and return its exit code; nothing is raised and nothing exits."""
    argv = list(sys.argv[1:] if args is None else args)
    options = Options(opener)
    _soften_streams()
    try:
        return _guard(argv, options)
    except (BrokenPipeError, ReaderGoneError):
        return _silence_stdout()


def _guard(argv: list[str], options: Options) -> int:
    """Run the command line; every error that has a message becomes one."""
    try:
        code = _run(argv, options)
        sys.stdout.flush()
        return code
    except (BrokenPipeError, ReaderGoneError):
        raise
    except (click.Abort, KeyboardInterrupt):
        return _interrupted(options)
    except Exception as error:
        from stretto.core.errors import StrettoError
        from stretto.doors.cli import failure

        options.json = options.json or "--json" in argv
        if isinstance(error, click.ClickException):
            return failure.show_usage(error, options)
        if isinstance(error, StrettoError):
            return failure.show_error(error, options, argv)
        return failure.show_bug(error, options, argv)


def _run(argv: list[str], options: Options) -> int:
    if not argv:
        argv = ["--help"]
    code: Any = stretto.main(argv, prog_name="stretto", standalone_mode=False, obj=options)
    return code if isinstance(code, int) else 0


def _interrupted(options: Options) -> int:
    from stretto.doors.cli.failure import INTERRUPTED

    if not options.quiet:
        sys.stderr.write("stretto: interrupted\n")
    return INTERRUPTED


def _soften_streams() -> None:
    """Let a terminal that can't show a character get a spelling of it instead of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _silence_stdout() -> int:
    """Point stdout nowhere, so that the interpreter's last flush does not fail too."""
    from stretto.doors.cli.failure import BROKEN_PIPE

    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return BROKEN_PIPE
