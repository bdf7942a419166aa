"""Brings artifacts into a directory: all that fits or nothing, never out of the directory, never over what differs.

What the paths and links say was written by jobs, so that nothing of it is believed: where a file really comes to lie is asked of
the file system, links that are there already included.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Final

from stretto.core.errors import InputError, StrettoError
from stretto.core.frozen import frozen
from stretto.waist import StoredArtifact

NAMED_AT_MOST: Final = 5
"""How many files an error lists."""
MAX_PARTIAL_NAME: Final = 50
"""Characters of its name that a file keeps while it is written: with the rest, a file system takes it in any script."""
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


def download(plan: Iterable[Download], directory: Path) -> list[tuple[Download, Done]]:
    """Write the files, then the links, and return what became of each; InputError where the disk refuses."""
    done: list[tuple[Download, Done]] = []
    links: list[Download] = []
    for it in plan:
        with _told(it.target):
            if os.path.lexists(it.target):
                done.append((it, Done.UNCHANGED))
            elif not _is_inside(it.target.parent, directory):
                done.append((it, Done.LEFT_OUT))
            else:
                it.target.parent.mkdir(parents=True, exist_ok=True)
                if it.stored.artifact.link is None:
                    _copy(it)
                    done.append((it, Done.WRITTEN))
                else:
                    it.target.symlink_to(it.stored.artifact.link)
                    links.append(it)
    for it in links:  # only now that all are there is it known where each one leads
        inside = _is_inside(it.target, directory) and not it.target.readlink().is_absolute()
        if not inside:
            it.target.unlink()
        done.append((it, Done.WRITTEN if inside else Done.LEFT_OUT))
    return done


def _copy(it: Download) -> None:
    if it.stored.path is None:
        raise StrettoError(f"artifact {it.stored.artifact.path!r} of {it.stored.job!r} is no link and has no bytes")
    partial = it.target.with_name(f".{it.target.name[:MAX_PARTIAL_NAME]}.{os.getpid()}.partial")
    mode = PROGRAM_MODE if it.stored.artifact.executable else FILE_MODE
    partial.unlink(missing_ok=True)
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        shutil.copyfile(it.stored.path, partial)
        partial.replace(it.target)
    finally:
        partial.unlink(missing_ok=True)


def _is_inside(path: Path, directory: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory))


def _is_same(it: StoredArtifact, target: Path) -> bool:
    if it.artifact.link is not None or target.is_symlink():
        return target.is_symlink() and str(target.readlink()) == it.artifact.link
    return it.path is not None and target.is_file() and filecmp.cmp(it.path, target, shallow=False)


@contextmanager
def _told(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{target} can't be written: {error.strerror}") from error
