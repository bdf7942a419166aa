"""Brings artifacts into a directory: all that fits or nothing, never out of the directory, never over what differs.

What the paths and links say was written by jobs, so that nothing of it is believed: where a file really comes to lie is asked of
the file system, links that are there already included.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Final

from stretto.core.errors import InputError, StoreError
from stretto.core.frozen import frozen
from stretto.waist import StoredArtifact, Waist

NAMED_AT_MOST: Final = 5
"""How many files an error lists."""
MAX_PARTIAL_NAME: Final = 50
"""Characters of its name that a file keeps while it is written: with the rest, a file system takes it in any script."""
AT_ONCE: Final = 8
"""Files that are fetched at once: between hosts each costs a round trip, and a few of them fill a line."""
FILE_MODE: Final = 0o666
PROGRAM_MODE: Final = 0o777
"""As the person's umask leaves them."""


class Done(StrEnum):
    """What became of an artifact."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    """The same file is there already."""
    LEFT_OUT = "left_out"
    """A link that leads out of the directory."""


@frozen
class Download:
    """An artifact and where it belongs."""

    stored: StoredArtifact
    target: Path


def plan_download(stored: Iterable[StoredArtifact], directory: Path, *, by_job: bool) -> list[Download]:
    """Return where each artifact belongs in `directory` (with `by_job` in a folder per job); InputError.

    Writes nothing. What would leave the directory is refused, and so are files that are there and differ.
    """
    downloads: dict[Path, Download] = {}
    clashes: list[Path] = []
    for it in stored:
        target = Path(
            os.path.normpath(directory / it.job / it.artifact.path if by_job else directory / it.artifact.path)
        )
        if not _is_inside(target.parent, directory) or target == Path(os.path.normpath(directory)):
            raise InputError(
                f"artifact {it.artifact.path!r} of {it.job!r} would leave {directory}; nothing was written"
            )
        other = downloads.setdefault(target, Download(it, target))
        if other.stored.artifact != it.artifact or (os.path.lexists(target) and not _is_same(it, target)):
            clashes.append(target)
    if clashes:
        more = f" and {len(clashes) - NAMED_AT_MOST} more" if len(clashes) > NAMED_AT_MOST else ""
        names = ", ".join(map(str, clashes[:NAMED_AT_MOST])) + more
        raise InputError(
            f"already there, with another content: {names}; nothing was written",
            hint="choose another directory, or remove what is in the way",
        )
    return list(downloads.values())


async def download(waist: Waist, plan: Sequence[Download], directory: Path) -> list[tuple[Download, Done]]:
    """Write the files, then the links, and return what became of each; InputError where the disk refuses.

    All bytes are there, beside the places where they belong, before the first file appears. Fails before that without a trace.
    """
    done = {it.target: Done.UNCHANGED for it in plan if os.path.lexists(it.target)}
    outside = [it for it in plan if it.target not in done and not _is_inside(it.target.parent, directory)]
    done |= {it.target: Done.LEFT_OUT for it in outside}
    wanted = [it for it in plan if it.target not in done]
    made: list[Path] = []
    partials: dict[Path, Path] = {}
    try:
        for it in wanted:
            with _told(it.target):
                made += _make_folder(it.target.parent)
        await _fetch_all(waist, [it for it in wanted if it.stored.artifact.link is None], partials)
    except BaseException:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
        for folder in reversed(made):
            _remove_if_empty(folder)
        raise
    for it in wanted:
        with _told(it.target):
            if it.target in partials:
                partials[it.target].replace(it.target)
            else:
                it.target.symlink_to(str(it.stored.artifact.link))
        done[it.target] = Done.WRITTEN
    for it in wanted:  # only now that all are there is it known where each link leads
        if it.target.is_symlink() and (not _is_inside(it.target, directory) or it.target.readlink().is_absolute()):
            it.target.unlink()
            done[it.target] = Done.LEFT_OUT
    return [(it, done[it.target]) for it in plan]


async def _fetch_all(waist: Waist, wanted: Sequence[Download], partials: dict[Path, Path]) -> None:
    """Bring the bytes of all files; `partials` says where those of each target are, also where this fails."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def fetch(it: Download) -> None:
        async with slots:
            partials[it.target] = partial = _partial(it.target)
            with _told(it.target):
                await _fetch(waist, it, partial)

    try:
        async with asyncio.TaskGroup() as group:
            for it in wanted:
                group.create_task(fetch(it), name=f"fetch {it.stored.artifact.path}")
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _fetch(waist: Waist, it: Download, partial: Path) -> None:
    artifact = it.stored.artifact
    mode = PROGRAM_MODE if artifact.executable else FILE_MODE
    partial.unlink(missing_ok=True)
    digest = hashlib.sha256()
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        async for data in waist.artifact_data(it.stored):
            digest.update(data)
            await asyncio.to_thread(file.write, data)
    if digest.hexdigest() != artifact.digest:
        raise StoreError(f"artifact {artifact.path!r} of {it.stored.job!r} has other bytes than the job left")


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name[:MAX_PARTIAL_NAME]}.{os.getpid()}.partial")


def _make_folder(folder: Path) -> list[Path]:
    """Make the folder and those it is in, and return the ones that were not there, outermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass  # somebody else put something there, or took it away


def _is_inside(path: Path, directory: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory))


def _is_same(it: StoredArtifact, target: Path) -> bool:
    if it.artifact.link is not None or target.is_symlink():
        return target.is_symlink() and str(target.readlink()) == it.artifact.link
    return (
        target.is_file() and target.stat().st_size == it.artifact.size_bytes and _digest(target) == it.artifact.digest
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _told(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{target} can't be written: {error.strerror}") from error
