"""`stretto check`: without git, engine or store, so that an editor or a commit hook may call it each time."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

import click

from stretto.core.errors import DefinitionError, InputError
from stretto.definitions import Definition, choose, compile_pipeline, load, locate
from stretto.definitions.document import MAX_BYTES
from stretto.definitions.locate import DIRECTORY
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.failure import BAD_INPUT, fault_lines
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.place import find_top
from stretto.doors.cli.request import DRIVERS
from stretto.reports.fault import faults_to_json
from stretto.reports.human import count
from stretto.reports.terminal import RED, plain

READ_LIMIT_BYTES: Final = 16 * MAX_BYTES
"""More than a definition may have, so that the parser can tell how large it is."""


@declare("check", example="stretto check pipeline.yml")
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path))
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the files; repeatable."
)
@click.option("--driver", type=DRIVERS, help="Where jobs are to run. Default: the setting.")
@click.pass_obj
def command(options: Options, files: tuple[Path, ...], overrides: tuple[str, ...], driver: str | None) -> int:
    """Check pipeline files: all faults at once.

    Without FILE, those that `stretto run` would take here: pipeline.yml at the repository's root, else .cicd-pipelines/*.yml.
    Exits with 2 if there are faults, each told as file:line:column: rule: message (hint).
    """
    driver = driver or options.settings().driver
    good: list[Definition] = []
    bad: list[DefinitionError] = []
    for path, data in [(path, _read(path)) for path in files or _find()]:
        try:
            definition = load(str(path), data, overrides=overrides)
            compile_pipeline(definition, driver=driver)
            good.append(definition)
        except DefinitionError as error:
            bad.append(error)
    if not files:
        choose(good, [definition.name for definition in good])  # `run` can't tell two of one name apart
    _tell(options, good, bad)
    return BAD_INPUT if bad else 0


def _tell(options: Options, good: list[Definition], bad: list[DefinitionError]) -> None:
    if options.json:
        say(json.dumps([fault for error in bad for fault in faults_to_json(error)], ensure_ascii=False))
        return
    for definition in [] if options.quiet else good:
        used = {job.stage for job in definition.jobs}
        told = f"{count(len(definition.jobs), 'job')} in {count(len(used), 'stage')}"
        say(f"{plain(definition.file)}: ok, {told}")
    style = options.style(sys.stderr)
    for line in [line for error in bad for line in fault_lines(error)]:
        say(style.paint(line, RED), err=True)


def _find() -> list[Path]:
    """Return the files that a run here would take, named as seen from here; InputError."""
    here = Path.cwd()
    top = find_top(here) or here
    try:
        listing = [
            path.relative_to(top).as_posix()
            for folder in (top, top / DIRECTORY)
            if folder.is_dir()
            for path in folder.iterdir()
            if path.is_file()
        ]
    except OSError as error:
        raise InputError(f"{error.filename} can't be read: {error.strerror}") from error
    return [Path(os.path.relpath(top / name, here)) for name in locate(listing)]


def _read(path: Path) -> bytes:
    """Return the file; of one that is too large, just enough for the parser to say so."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InputError(f"{path} can't be read: it is no regular file")
        with path.open("rb") as file:
            return file.read(READ_LIMIT_BYTES)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
