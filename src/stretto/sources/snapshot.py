"""Makes a commit of a working tree as it is, untracked files included, without touching index, refs, stash or files."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from stretto.core.errors import SourceError
from stretto.sources.command import git

_AUTHOR = "stretto"


async def dirty(repository: Path) -> bool:
    """Say whether the working tree differs from HEAD; untracked files that are not ignored count."""
    status = await git(
        *("--no-optional-locks", "status", "--porcelain", "-z", "--untracked-files=normal"),
        cwd=repository,
        about=f"{repository}: its state can't be read",
    )
    return bool(status)


async def working_tree_commit(repository: Path) -> str:
    """Return a dangling commit that holds the working tree as it is; HEAD itself where nothing differs.

    The same tree on the same HEAD gives the same commit, so that its checkout is made once. What a submodule holds
    beyond its own HEAD is not in it. SourceError if `repository` has no working tree or no commit.
    """
    about = f"{repository}: its working tree can't be recorded"
    places = await git(
        *(
            "rev-parse",
            "--path-format=absolute",
            "--show-toplevel",
            "--git-path",
            "index",
            "HEAD^{commit}",
            "HEAD^{tree}",
        ),
        cwd=repository,
        about=about,
    )
    try:
        top, index, head, head_tree = places.decode("utf-8", "surrogateescape").splitlines()
    except ValueError as error:
        raise SourceError(f"{about}: the path of the repository holds a line break") from error
    with tempfile.TemporaryDirectory(prefix="stretto-index-") as scratch:
        copy = Path(scratch) / "index"
        if Path(index).exists():
            shutil.copy2(index, copy)  # keeps what git knows of unchanged files, so that only changed ones are read
        environment = {"GIT_INDEX_FILE": str(copy)}
        await git("add", "--all", "--", ":/", cwd=Path(top), environment=environment, about=about)
        tree = (await git("write-tree", cwd=Path(top), environment=environment, about=about)).decode().strip()
    return head if tree == head_tree else await _commit(Path(top), tree, head, about)


async def _commit(top: Path, tree: str, head: str, about: str) -> str:
    shown = await git("show", "--no-patch", "--no-show-signature", "--format=%cI%n%s", head, cwd=top, about=about)
    date, _, subject = shown.decode("utf-8", "replace").strip().partition("\n")
    environment = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", _AUTHOR), ("EMAIL", f"{_AUTHOR}@localhost"), ("DATE", date))
    }
    message = f"Working tree on {head[:12]}: {subject}\n".encode()
    commit = await git(
        *("commit-tree", "--no-gpg-sign", "-p", head, "-F", "-", tree),
        cwd=top,
        environment=environment,
        stdin=message,
        about=about,
    )
    return commit.decode().strip()
