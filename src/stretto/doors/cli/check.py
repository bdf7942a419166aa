"""`stretto check`: without git, engine or store, so that an editor or a commit hook may call it each time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click

from stretto.core.errors import DefinitionError, InputError
from stretto.definitions import compile_pipeline, load, locate
from stretto.definitions.locate import DIRECTORY, ROOT_FILES
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.failure import BAD_INPUT, fault_lines, faults_to_json
from stretto.doors.cli.options import Options, say
from stretto.reports.human import count
from stretto.reports.terminal import RED, plain

READ_LIMIT_BYTES: Final = 11_000_000
"""A little more than a definition may have: the parser says what is wrong with a larger one."""


@declare("check", example="stretto check pipeline.yml")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--driver", type=click.Choice(["docker", "process"]), help="Where jobs are to run. Default: the setting.")
@click.pass_obj
def command(options: Options, files: tuple[str, ...], driver: str | None) -> int:
    """Check pipeline files: all faults at once.

    Without FILE, those that `stretto run` would take here: pipeline.yml at the repository's root, else .cicd-pipelines/*.yml.
    Exits with 2 if there are faults, each told as file:line:column: rule: message (hint).
    """
    driver = driver or options.settings().driver
    good: list[str] = []
    bad: list[DefinitionError] = []
    for file, data in [(file, _read(Path(file))) for file in files] or _find():
        try:
            spec = compile_pipeline(load(file, data), driver=driver)
        except DefinitionError as error:
            bad.append(error)
        else:
            used = {job.stage for job in spec.jobs}
            good.append(f"{plain(file)}: ok, {count(len(spec.jobs), 'job')} in {count(len(used), 'stage')}")
    if options.json:
        say(json.dumps([fault for error in bad for fault in faults_to_json(error)], ensure_ascii=False))
    else:
        for line in [] if options.quiet else good:
            say(line)
        style = options.style(sys.stderr)
        for line in [line for error in bad for line in fault_lines(error)]:
            say(style.paint(line, RED), err=True)
    return BAD_INPUT if bad else 0


def _find() -> list[tuple[str, bytes]]:
    """Return the files that a run here would take, named as seen from here."""
    here = Path.cwd()
    root = next((place for place in (here, *here.parents) if (place / ".git").exists()), here)
    listing = [name for name in ROOT_FILES if (root / name).is_file()]
    folder = root / DIRECTORY
    if folder.is_dir():
        listing += [f"{DIRECTORY}/{path.name}" for path in folder.iterdir() if path.is_file()]
    paths = [root / file for file in locate(listing)]
    return [(str(path.relative_to(here) if path.is_relative_to(here) else path), _read(path)) for path in paths]


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a file")
        with path.open("rb") as file:
            return file.read(READ_LIMIT_BYTES)
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}") from error
