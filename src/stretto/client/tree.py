"""A repository on this host, for a server that can't reach it: which commit is meant, what it is called, and its pack.

What is wrong with the definition is found here, before anything is sent, and so told as the embedded product tells it.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from stretto.compilation import Compiler
from stretto.core.errors import SourceError
from stretto.sources.address import parse
from stretto.sources.command import run
from stretto.sources.git import Repositories
from stretto.sources.pack import pack_commit
from stretto.waist import RunRequest

_NOWHERE: Final = Path("/nonexistent")
"""Of a local repository nothing is kept, so that there is no place to keep it."""
_LENIENT: Final = "process"
"""The driver with the fewest wants: which one the server takes is the server's to say, and to check."""
CHUNK_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Tree:
    """A commit of a repository on this host, and what the repository is called elsewhere."""

    repository: str
    commit: str
    branch: str | None
    git_directory: Path


@dataclass(frozen=True, slots=True)
class PackFile:
    """A tree as a file, with its SHA-256."""

    path: Path
    digest: str
    size_bytes: int


def is_local(request: RunRequest) -> bool:
    """Say whether a repository on this host is meant; SourceError if it is no repository's address."""
    return request.upload is None and parse(request.repository or request.directory, request.directory).is_local


async def find_tree(request: RunRequest) -> Tree:
    """Return the commit that a request for a repository on this host means.

    DefinitionError, SourceError, InputError, as they would come where it was run here.
    """
    compiler = Compiler(Repositories(_NOWHERE), None, default_driver=_LENIENT, check_driver=str)
    _, specs = await compiler.compile(request)
    source = specs[0].source
    assert source is not None
    home = Path(source.repository)
    git_directory = (home / ".git").resolve() if (home / ".git").exists() else home
    return Tree(await display_name(home), source.commit, source.branch, git_directory)


async def has_changes(request: RunRequest) -> bool:
    """Say whether the working tree that is meant has changes which are not part of what the request runs."""
    if request.working_tree or request.branch is not None or request.commit is not None:
        return False
    return await Repositories(_NOWHERE).has_changes(request.repository, cwd=request.directory)


async def display_name(repository: Path) -> str:
    """Return what others call a repository: the URL of its remote `origin`, without credentials, else its path."""
    done = await run("config", "--get", "remote.origin.url", cwd=repository)
    url = done.out.decode("utf-8", "replace").strip()
    if done.code == 0 and url:
        try:
            address = parse(url, repository)
        except SourceError:
            return str(repository)
        if not address.is_local:
            return address.repository
    return str(repository)


@asynccontextmanager
async def pack(tree: Tree) -> AsyncIterator[PackFile]:
    """Give the tree as a file, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="stretto-pack-") as scratch:
        path = await pack_commit(tree.git_directory, tree.commit, Path(scratch))
        yield PackFile(path, await asyncio.to_thread(_digest, path), path.stat().st_size)


async def read(file: PackFile) -> AsyncIterator[bytes]:
    """Yield the bytes of the pack."""
    with file.path.open("rb") as opened:
        while data := await asyncio.to_thread(opened.read, CHUNK_BYTES):
            yield data


def headers(tree: Tree, file: PackFile) -> dict[str, str]:
    """Return the headers that say what a pack is; names are percent-encoded, as headers are no place for UTF-8."""
    facts = {
        "Content-Type": "application/x-git-packed-objects",
        "Content-Length": str(file.size_bytes),
        "Stretto-Commit": tree.commit,
        "Stretto-Repository": quote(tree.repository),
        "Stretto-Digest": file.digest,
    }
    return facts if tree.branch is None else facts | {"Stretto-Branch": quote(tree.branch)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
