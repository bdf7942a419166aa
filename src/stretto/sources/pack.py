"""Packs one commit with its files and nothing of its history, to be sent elsewhere."""

from __future__ import annotations

from pathlib import Path

from stretto.core.errors import SourceError
from stretto.sources.command import NETWORK_TIMEOUT_S, git


async def pack_commit(git_directory: Path, commit: str, directory: Path) -> Path:
    """Write a git pack of `commit` (full hash) into `directory` and return its file; SourceError.

    No deltas are looked for: within one tree they save little, and without them the same commit gives the same bytes as long
    as the repository is not packed anew. Commits of submodules are not in it.
    """
    about = f"commit {commit[:12]} of {git_directory} can't be packed"
    where = ("--git-dir", git_directory)
    objects = await git(*where, "rev-list", "--objects", "--no-walk", commit, timeout_s=NETWORK_TIMEOUT_S, about=about)
    await git(
        *(*where, "pack-objects", "--quiet", "--window=0", directory / "upload"),
        stdin=objects,
        timeout_s=NETWORK_TIMEOUT_S,
        about=about,
    )
    packs = list(directory.glob("upload-*.pack"))
    if len(packs) != 1:
        raise SourceError(f"{about}: git made {len(packs)} packs of it", hint="unset pack.packSizeLimit")
    return packs[0]
