"""`stretto artifacts`: list what jobs left, or copy it out; nothing is ever written outside the directory that was named."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import click

from stretto.core.errors import InputError, StrettoError
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.reference import JobName, RunReference, find_run
from stretto.reports.human import count, size
from stretto.reports.terminal import DIM, Cell, plain
from stretto.waist import StoredArtifact

FILE_MODE: Final = 0o666
PROGRAM_MODE: Final = 0o777
"""As the person's umask leaves them."""


@declare("artifacts", example="stretto artifacts latest --download out")
@click.argument("run", type=RunReference())
@click.option("--job", metavar="NAME", type=JobName(), help="Those of this job only.")
@click.option("--download", type=click.Path(path_type=Path), metavar="DIR", help="Copy them to DIR/JOB/PATH.")
@click.pass_obj
def command(options: Options, run: str, job: str | None, download: Path | None) -> None:
    """List or download what a run's jobs left."""
    found = asyncio.run(_artifacts(options, run, job))
    if download is not None:
        copy(found, download)
    if options.json:
        say(json.dumps([_to_json(item, download) for item in found], ensure_ascii=False))
        return
    total = size(sum(item.artifact.size_bytes for item in found))
    if download is not None:
        if not options.quiet:
            say(f"{count(len(found), 'file')}, {total}, in {plain(str(download))}")
        return
    style = options.style(sys.stdout)
    rows = [
        [
            Cell(style.clean(item.job)),
            Cell(style.clean(item.artifact.path)),
            Cell(size(item.artifact.size_bytes)),
            Cell(f"sha256:{item.artifact.digest}", DIM),
        ]
        for item in found
    ]
    if not rows:
        say("No artifacts.")
        return
    for line in style.table(("Job", "Artifact", "Size", "Digest"), rows, right=frozenset({2})):
        say(line)


async def _artifacts(options: Options, run: str, job: str | None) -> list[StoredArtifact]:
    async with options.open() as waist:
        return await waist.artifacts(await find_run(waist, run), job=job)


def copy(found: Sequence[StoredArtifact], directory: Path) -> None:
    """Copy the artifacts to `directory/job/path`, links last; InputError, before anything is written, if one would leave it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        root = directory.resolve()
        planned = [(item, _target(root, item)) for item in found]
        for item, target in sorted(planned, key=lambda pair: pair[0].artifact.link is not None):
            _refuse_links(root, target)
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy_one(item, target)
    except OSError as error:
        raise InputError(f"can't write to {error.filename or directory}: {error.strerror}") from error


def _target(root: Path, item: StoredArtifact) -> Path:
    """Return where the artifact goes; a job's name is one folder, whatever is in it."""
    path = PurePosixPath(item.artifact.path)
    folder = item.job.replace("/", "_")
    if path.is_absolute() or ".." in path.parts or not path.parts or folder in ("", ".", ".."):
        raise InputError(f"artifact {item.artifact.path!r} of job {item.job!r} would leave {root}")
    target = root.joinpath(folder, *path.parts)
    link = item.artifact.link
    if link is not None and not Path(os.path.normpath(target.parent / link)).is_relative_to(root / folder):
        raise InputError(f"artifact {item.artifact.path!r} of job {item.job!r} is a link that leaves {root}")
    return target


def _refuse_links(root: Path, target: Path) -> None:
    """Refuse to write through a link that stands in the directory already."""
    for place in target.relative_to(root).parents:
        if (root / place).is_symlink():
            raise InputError(f"{root / place} is a link; artifacts are not written through it")


def _copy_one(item: StoredArtifact, target: Path) -> None:
    target.unlink(missing_ok=True)
    if item.artifact.link is not None:
        target.symlink_to(item.artifact.link)
        return
    if item.path is None:
        raise StrettoError(f"artifact {item.artifact.path!r} of job {item.job!r} is no link and has no bytes")
    mode = PROGRAM_MODE if item.artifact.executable else FILE_MODE
    file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(file, "wb") as out, item.path.open("rb") as data:  # noqa: PTH123
        shutil.copyfileobj(data, out)


def _to_json(item: StoredArtifact, download: Path | None) -> dict[str, Any]:
    artifact = item.artifact
    data = {
        "job": item.job,
        "attempt": item.attempt,
        "path": artifact.path,
        "size_bytes": artifact.size_bytes,
        "digest": artifact.digest,
        "executable": artifact.executable,
        "link": artifact.link,
    }
    if download is not None:
        data["downloaded_to"] = str(_target(download.resolve(), item))
    return data
