"""`stretto check`: the faults of definition files, without git, back-end or store.

It is run at every save of a file, so it imports the definitions and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from stretto.core.errors import DefinitionError, InputError
from stretto.definitions import Definition, choose, compile_pipeline, load, locate
from stretto.definitions.document import MAX_BYTES
from stretto.definitions.locate import DIRECTORY
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.failure import BAD_INPUT, fault_lines, faults_to_json
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.place import find_top
from stretto.doors.cli.text import harmless
from stretto.drivers.registry import DRIVERS


@declare("check", example="stretto check pipeline.yml")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Value over that of the file.")
@click.option("--driver", type=click.Choice(list(DRIVERS)), help="Where jobs would run (STRETTO_DRIVER).")
@click.pass_obj
def command(options: Options, files: tuple[Path, ...], overrides: tuple[str, ...], driver: str | None) -> int:
    """Check pipeline files as they are on disk, and tell all their faults at once.

    Without FILE: pipeline.yml at the top of the working tree, or all of .cicd-pipelines. Needs neither git nor a back-end.
    """
    driver = driver or options.settings().driver
    paths = list(files) or _find()
    contents = [(path, _read(path)) for path in paths]
    good: list[Definition] = []
    bad: list[DefinitionError] = []
    for path, data in contents:
        try:
            definition = load(str(path), data, overrides=overrides)
            compile_pipeline(definition, driver=driver)
            good.append(definition)
        except DefinitionError as error:
            bad.append(error)
    if not files:
        choose(good, [definition.name for definition in good])  # two of one name can't be told apart by `run`
    _tell(options, good, bad)
    return BAD_INPUT if bad else 0


def _tell(options: Options, good: list[Definition], bad: list[DefinitionError]) -> None:
    if options.json:
        faults = [fault for error in bad for fault in faults_to_json(error)]
        say(json.dumps(faults, indent=2, ensure_ascii=False))
        return
    if not options.quiet:
        for definition in good:
            used = {job.stage for job in definition.jobs}
            say(
                f"{harmless(definition.file)}: ok, {_count(len(definition.jobs), 'job')} in {_count(len(used), 'stage')}"
            )
    paint = options.paint(sys.stderr)
    for line in (line for error in bad for line in fault_lines(error)):
        say(paint(line, "red"), err=True)


def _find() -> list[Path]:
    """Return the definition files that `run` would find, relative to the current directory; InputError."""
    here = Path.cwd()
    top = find_top(here) or here
    listing = [
        path.relative_to(top).as_posix()
        for directory in (top, top / DIRECTORY)
        if directory.is_dir()
        for path in directory.iterdir()
        if path.is_file()
    ]
    return [Path(os.path.relpath(top / name, here)) for name in locate(listing)]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)  # one more than the checks let pass
    except OSError as error:
        raise InputError(f"{path} can't be read: {(error.strerror or str(error)).lower()}") from error


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
