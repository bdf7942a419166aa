"""Finds the definition files of a repository and picks the pipelines a person asked for. Pure: works on a listing of paths."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Sequence

from stretto.core.errors import InputError
from stretto.definitions.definition import Definition
from stretto.definitions.fault import nearest
from stretto.definitions.node import quote

ROOT_FILES = ("pipeline.yml", "pipeline.yaml")
DIRECTORY = ".cicd-pipelines"

_MAX_CANDIDATES = 1_000
"""How many paths are compared for a hint."""


def locate(listing: Collection[str], *, file: str | None = None) -> tuple[str, ...]:
    """Return the definition files among `listing` (paths of files from the repository's root, with `/`); InputError.

    `file` if given; else the one at the root; else those directly in `.cicd-pipelines`, sorted. At least one.
    """
    if file is not None:
        return (_explicit(listing, file),)
    at_root = [name for name in ROOT_FILES if name in listing]
    if len(at_root) > 1:
        raise InputError(
            f"the repository has both {' and '.join(at_root)}", hint="remove one, or choose one with -f FILE"
        )
    if at_root:
        return tuple(at_root)
    inside = sorted(
        path for path in listing if posixpath.dirname(path) == DIRECTORY and path.endswith((".yml", ".yaml"))
    )
    if not inside:
        raise InputError(
            f"the repository has no pipeline.yml at its root and no *.yml in {DIRECTORY}/",
            hint="write a pipeline.yml and commit it, or name the file with -f FILE",
        )
    return tuple(inside)


def check_file(file: str) -> str:
    """Return the path of `-f` in its plain form; InputError if it leaves the repository."""
    path = posixpath.normpath(file)
    if path.startswith("/") or path == ".." or path.startswith("../"):
        raise InputError(
            f"-f {quote(file)}: the path leaves the repository", hint="write it relative to the repository's root"
        )
    return path


def choose(definitions: Sequence[Definition], names: Sequence[str] = ()) -> tuple[Definition, ...]:
    """Return the pipelines with these names (of `-p`), in their order and each once; without names the only one; InputError."""
    by_name: dict[str, Definition] = {}
    for definition in definitions:
        other = by_name.setdefault(definition.name, definition)
        if other is not definition:
            raise InputError(
                f"{other.file} and {definition.file} both have the name {quote(definition.name)}",
                hint="rename one, or choose a file with -f FILE",
            )
    for name in names:
        if name not in by_name:
            hint = nearest(name, by_name) or f"the pipelines are {_listed(by_name)}"
            raise InputError(f"there is no pipeline {quote(name)}", hint=hint)
    if not names and len(by_name) > 1:
        message = f"the repository has {len(by_name)} pipelines: {_listed(by_name)}"
        raise InputError(message, hint="choose with -p NAME; it may be repeated")
    return tuple(by_name[name] for name in dict.fromkeys(names or by_name))


def _explicit(listing: Collection[str], file: str) -> str:
    path = check_file(file)
    if path not in listing:
        raise InputError(
            f"-f {quote(file)}: the commit has no such file",
            hint=nearest(path, [known for known in listing if known.endswith((".yml", ".yaml"))][:_MAX_CANDIDATES]),
        )
    return path


def _listed(names: Collection[str]) -> str:
    return ", ".join(quote(name) for name in names)
