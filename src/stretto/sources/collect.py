"""Picks the artifacts out of what a job left: what it created or changed, matches, and is a file or a link within the tree."""

from __future__ import annotations

import filecmp
import logging
import os
import re
import stat
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Final

from stretto.core.errors import DriverError, InputError
from stretto.core.ports import ArtifactFile
from stretto.core.states import Reason

log = logging.getLogger(__name__)

MAX_LINKS: Final = 40
"""How many symbolic links are followed for one path, as by the kernel."""

_GIT_DIRECTORY: Final = ".git"


def compile_patterns(patterns: Sequence[str]) -> list[str]:
    """Return the patterns as regular expressions that match a whole path; InputError for one that leaves the tree.

    `*` and `?` stay within a name, `[…]` is a set of characters, `**` goes over directories; what matches a directory
    matches all beneath it.
    """
    try:
        return [re.compile(_compile(pattern)).pattern for pattern in patterns]
    except re.error as error:
        raise InputError(f"{error.pattern!r} has a bad set of characters: {error}") from error


def collect_files(
    root: Path, lowers: Sequence[Path], wanted: Sequence[str], limit_bytes: int, *, compare: bool
) -> list[ArtifactFile]:
    """Return the files beneath `root` that match, sorted by path.

    `root` is the upper directory of an overlay (all in it was changed), or, with `compare`, a copy of `lowers`.
    """
    if not wanted:
        return []
    matches = re.compile("|".join(f"(?:{pattern})" for pattern in wanted), re.DOTALL).fullmatch
    layers = (root,) if compare else (root, *lowers)
    found, total = [], 0
    for path, entry in _walk(root):
        if not matches(path) or (compare and _is_unchanged(path, entry, lowers)):
            continue
        artifact = _artifact(path, entry, layers)
        if artifact is None:
            continue
        total += artifact.size_bytes
        if total > limit_bytes:
            raise DriverError(
                f"the artifacts have more than {limit_bytes} bytes (reached at {path!r})",
                reason=Reason.ARTIFACTS_FAILED,
                hint="name fewer files under artifacts.paths",
            )
        found.append(artifact)
    return sorted(found, key=lambda artifact: artifact.path)


def _walk(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield everything beneath `root` but directories, and the repository's own `.git`; no link is followed."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        _open_to_us(root / prefix, os.R_OK | os.X_OK)
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                path = prefix + entry.name
                if path == _GIT_DIRECTORY:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{path}/")
                else:
                    yield path, entry


def _open_to_us(path: Path, rights: int) -> None:
    """Undo a mode by which a job closed a file or directory to its own user; root never needs it. It is to be deleted anyway."""
    if not os.access(path, rights):
        path.chmod(stat.S_IMODE(path.lstat().st_mode) | rights << 6)  # no more than that: the mode says what a file is


def _artifact(path: str, entry: os.DirEntry[str], layers: Sequence[Path]) -> ArtifactFile | None:
    """Return the artifact at `path`; None, with a warning where it may surprise, for what can't be one."""
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        if not status.st_mode & stat.S_IRUSR:
            _open_to_us(Path(entry.path), os.R_OK)
        return ArtifactFile(path, Path(entry.path), status.st_size, executable=bool(status.st_mode & 0o100))
    if stat.S_ISLNK(status.st_mode):
        target = str(Path(entry.path).readlink())
        if _stays_inside(path, target, layers):
            return ArtifactFile(path, Path(entry.path), len(os.fsencode(target)), link=target)
        log.warning("an artifact is left out: a link out of the tree", extra={"path": path, "target": target})
    elif not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):  # 0/0 is an overlay's mark for a deleted file
        log.warning("an artifact is left out: neither a file nor a link", extra={"path": path})
    return None


def _stays_inside(path: str, target: str, layers: Sequence[Path]) -> bool:
    """Say whether the link at `path` ends within the tree, following links on its way as the tree has them."""
    place = list(PurePosixPath(path).parts[:-1])
    pending = _parts(target)
    followed = 0
    if target.startswith("/"):
        return False
    while pending:
        part = pending.pop(0)
        if part == "..":
            if not place:
                return False
            place.pop()
            continue
        place.append(part)
        if (inner := _read_link("/".join(place), layers)) is not None:
            followed += 1
            if inner.startswith("/") or followed > MAX_LINKS:
                return False
            place.pop()
            pending = _parts(inner) + pending
    return True


def _parts(target: str) -> list[str]:
    return [part for part in target.split("/") if part not in ("", ".")]


def _read_link(path: str, layers: Sequence[Path]) -> str | None:
    """Return the target of the link that the tree has at `path`, None if it has something else or nothing there."""
    for layer in layers:
        try:
            return str((layer / path).readlink())
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def _is_unchanged(path: str, entry: os.DirEntry[str], lowers: Sequence[Path]) -> bool:
    """Say whether the file is as the first layer that has it: by size, time and mode, else by mode and content."""
    now = entry.stat(follow_symlinks=False)
    for lower in lowers:
        if any((lower / parent).is_symlink() for parent in PurePosixPath(path).parents[:-1]):
            return False  # a directory took the place of a link, which must not lead us out
        original = lower / path
        try:
            before = original.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISLNK(now.st_mode) and stat.S_ISLNK(before.st_mode):
            return Path(entry.path).readlink() == original.readlink()
        if (now.st_size, now.st_mode) != (before.st_size, before.st_mode) or not stat.S_ISREG(now.st_mode):
            return False
        return now.st_mtime_ns == before.st_mtime_ns or filecmp.cmp(entry.path, original, shallow=False)
    return False


def _compile(pattern: str) -> str:
    parts = PurePosixPath(pattern).parts
    if not pattern or "\0" in pattern or pattern.startswith("/") or ".." in parts:
        raise InputError(f"{pattern!r} is no path within the tree", hint="give it relative to the repository's root")
    if not parts:  # "."
        return ".*"
    expression = ""
    for part, following in pairwise(parts):
        if part == following == "**":  # says the same twice, and would make matching slow
            continue
        expression += "(?:[^/]+/)*" if part == "**" else f"{_compile_name(part)}/"
    last = ".+" if parts[-1] == "**" else _compile_name(parts[-1])
    return f"{expression}{last}(?:/.*)?"


def _compile_name(name: str) -> str:
    """Return the expression for one name of a path."""
    expression, rest = "", re.sub(r"\*+", "*", name)
    while rest:
        character, rest = rest[0], rest[1:]
        if character == "*":
            expression += "[^/]*"
        elif character == "?":
            expression += "[^/]"
        elif character == "[" and (group := re.match(r"(!?)(\]?[^\]]*)\]", rest)) and group[2]:
            escaped = re.sub(r"([\\\[^&~|])", r"\\\1", group[2])
            expression += f"[{'^/' if group[1] else ''}{escaped}]"
            rest = rest[group.end() :]
        else:
            expression += re.escape(character)
    return expression
