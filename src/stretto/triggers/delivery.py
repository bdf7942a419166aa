"""What a forge tells by a webhook, in one form for all of them, and how its JSON is read without trusting it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from stretto.core.errors import InputError

BRANCHES: Final = "refs/heads/"
TAGS: Final = "refs/tags/"
TEXT_LIMIT: Final = 1024
"""Characters of a name or address that are believed to be one."""


class Trigger(StrEnum):
    """What happened to a repository, as hooks choose among it."""

    PUSH = "push"
    """Commits on a branch, or a new branch."""
    TAG = "tag"
    """A tag was pushed."""
    CREATE = "create"
    """A branch or tag was made. Forges tell of it besides the push: for hooks that get no pushes."""
    PULL_REQUEST = "pull_request"
    """A pull or merge request was opened, or its commits changed."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing that a forge told.

    `repositories` are the addresses of the repository it is about. `branch` is the branch or tag to run, `commit` its commit
    where told. Branch patterns are held against `target`, which for a pull request is the branch it goes to. `files` are all
    paths that its commits touch, None where that is not known for certain. `ignored` says why it can't start a run at all.
    """

    event: str
    repositories: tuple[str, ...] = ()
    trigger: Trigger | None = None
    branch: str | None = None
    target: str | None = None
    commit: str | None = None
    files: frozenset[str] | None = None
    sender: str = ""
    ignored: str | None = None


def text_at(data: Mapping[str, Any], *path: str) -> str | None:
    """Return the text at `path`, None if nothing is there; InputError if it is no short, printable text."""
    value: Any = data
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > TEXT_LIMIT or not value.isprintable():
        raise InputError(f"the payload's {'.'.join(path)} is no usable text")
    return value or None


def need(data: Mapping[str, Any], *path: str) -> str:
    """Return the text at `path`; InputError if there is none."""
    value = text_at(data, *path)
    if value is None:
        raise InputError(f"the payload has no {'.'.join(path)}")
    return value


def commit_at(data: Mapping[str, Any], *path: str) -> str | None:
    """Return the commit hash at `path`; None if there is none or it is all zeros, as forges write for nothing."""
    value = text_at(data, *path)
    if value is None or set(value) == {"0"}:
        return None
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", value):
        raise InputError(f"the payload's {'.'.join(path)} is no commit hash")
    return value


def texts_at(data: Mapping[str, Any], *paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts that are at these paths."""
    return tuple(text for path in paths if (text := text_at(data, *path)) is not None)


def files_of(commits: object) -> frozenset[str] | None:
    """Return the paths that the commits of a push add, change or remove; None if one of them does not say, or none is there."""
    if not isinstance(commits, Sequence) or isinstance(commits, str) or not commits:
        return None
    files: set[str] = set()
    for commit in commits:
        for kind in ("added", "modified", "removed"):
            paths = commit.get(kind) if isinstance(commit, Mapping) else None
            if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
                return None
            files.update(paths)
    return frozenset(files)


def ref_of(ref: str) -> tuple[Trigger | None, str]:
    """Return what a push to `ref` is and the name of its branch or tag; None for a ref that is neither."""
    if ref.startswith(BRANCHES):
        return Trigger.PUSH, ref.removeprefix(BRANCHES)
    if ref.startswith(TAGS):
        return Trigger.TAG, ref.removeprefix(TAGS)
    return None, ref
