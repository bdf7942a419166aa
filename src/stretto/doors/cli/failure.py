"""The one error boundary: what went wrong, told to a person or a machine, and the exit code that goes with it.

| code | meaning |
| --- | --- |
| 0 | success |
| 1 | the run failed, or what it needs could not be had |
| 2 | bad input; nothing was changed |
| 3 | a bug of Stretto, with a file to send, or a store that can't do its work |
| 4 | the run was canceled |
| 5 | the run timed out |
| 130 | interrupted (Ctrl-C, SIGTERM, SIGHUP) |
| 141 | whoever read our output went away |
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from stretto.core.errors import DefinitionError, StoreError, StrettoError
from stretto.doors.cli.options import Options
from stretto.doors.cli.text import harmless
from stretto.reports.fault import faults_to_json
from stretto.reports.terminal import RED

BAD_INPUT: Final = 2
BUG: Final = 3
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
MASK: Final = "[masked]"
CRASH_FILE_MODE: Final = 0o600
"""A traceback may quote what only its owner should read."""

_DID_YOU_MEAN: Final = re.compile(r"\s*(Did you mean .*|\(Possible options: .*\)|See 'stretto --help'\.)$", re.DOTALL)


def show_error(error: StrettoError, options: Options, argv: Sequence[str]) -> int:
    """Tell of an error of our own tree; one that says it is a bug leaves a crash file."""
    if error.exit_code == BUG and not isinstance(error, StoreError):
        return show_bug(error, options, argv)
    if isinstance(error, DefinitionError) and not options.json:
        style = options.style(sys.stderr)
        for line in fault_lines(error):
            _write(style.paint(line, RED))
    else:
        faults = None
        if isinstance(error, DefinitionError):
            faults = faults_to_json(error)
        _tell(error.message, error.hint, options, faults=faults)
    return error.exit_code


def show_usage(error: click.ClickException, options: Options) -> int:
    """Tell of a command line that can't be understood."""
    message, hint = error.format_message(), None
    if found := _DID_YOU_MEAN.search(message):
        message, hint = message[: found.start()], found[1].lower().replace("'stretto --help'", "`stretto --help`")
    if isinstance(error, click.UsageError) and error.ctx is not None and hint is None:
        hint = f"see `{error.ctx.command_path} --help`"
    _tell(message, hint, options)
    return BAD_INPUT


def show_bug(error: BaseException, options: Options, argv: Sequence[str]) -> int:
    """Write a crash file and say where it is."""
    import traceback

    trace = "".join(traceback.format_exception(error))
    message = f"{type(error).__name__}: {error}".rstrip(": ")
    path = _write_crash_file(trace, options, argv)
    hint = f"this is a bug of Stretto; send this file: {path}" if path else "this is a bug of Stretto"
    if path is None or options.verbose:
        _write(trace.rstrip())
    _tell(message, hint, options)
    return BUG


def fault_lines(error: DefinitionError) -> list[str]:
    """Return the faults, one to a line, as `file:line:column: rule: message (hint)`."""
    return [harmless(fault.text(error.file)) for fault in error.faults]


def mask_values(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments with the values of `--var` and `--set` masked, and those values."""
    shown: list[str] = []
    secrets: list[str] = []
    follows = False
    for word in argv:
        option, equals, rest = ("", "", word) if follows else word.partition("=")
        if follows or (equals and option in ("--var", "--set")):
            key, _, value = rest.partition("=")
            secrets.append(value)
            shown.append(f"{option}{equals}{key}={MASK}")
        else:
            shown.append(word)
        follows = not follows and word in ("--var", "--set")
    return shown, [secret for secret in secrets if secret]


def _tell(message: str, hint: str | None, options: Options, *, faults: list[dict[str, Any]] | None = None) -> None:
    if options.json:
        body: dict[str, Any] = {"message": message, "hint": hint}
        if faults is not None:
            body["faults"] = faults
        _write(json.dumps({"error": body}, ensure_ascii=False))
        return
    style = options.style(sys.stderr)
    _write(style.paint(f"stretto: error: {harmless(message)}", RED))
    if hint:
        _write(f"hint: {harmless(hint)}")


def _write(line: str) -> None:
    """Write to stderr if somebody still reads it; an error about errors helps nobody."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:
        pass


def _write_crash_file(trace: str, options: Options, argv: Sequence[str]) -> Path | None:
    """Write what is needed to find the bug; into the temporary directory where the home can't be had."""
    import platform
    from datetime import UTC, datetime
    from importlib.metadata import PackageNotFoundError, version

    def version_of(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "unknown"

    shown, secrets = mask_values(argv)
    for secret in sorted(secrets, key=len, reverse=True):
        trace = trace.replace(secret, MASK)
    now = datetime.now(UTC)
    lines = [
        f"time      {now.isoformat(timespec='seconds')}",
        *(f"{name:<9} {version_of(name)}" for name in ("stretto", "click", "h11", "PyYAML", "rich")),
        f"python    {sys.version.split()[0]} ({platform.python_implementation()})",
        f"system    {platform.platform()}",
        f"arguments {json.dumps(shown)}",
        "",
        trace,
    ]
    name = f"crash-{now:%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    for place in ("home", "temporary"):
        try:
            directory = options.settings().home / "crashes" if place == "home" else Path(tempfile.gettempdir())
            directory.mkdir(parents=True, exist_ok=True)
            path = directory / name
            file_number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, CRASH_FILE_MODE)
            with os.fdopen(file_number, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write("\n".join(lines))
            return path
        except (OSError, StrettoError):
            continue
    return None
