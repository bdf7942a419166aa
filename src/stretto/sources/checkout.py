"""Keeps one shared checkout per commit, which nobody writes to once it is there.

Its `.git` is whole: object files are hard links to the mirror's, so it costs a few links, works inside a container where
the mirror is not mounted, and outlives the mirror. HEAD is detached; branches are there as `origin/…`, tags as they are.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from stretto.core.errors import SourceError
from stretto.core.frozen import frozen
from stretto.sources.address import Address
from stretto.sources.command import LOCAL_TIMEOUT_S, NETWORK_TIMEOUT_S, git
from stretto.sources.disk import kept_on_disk
from stretto.sources.lock import locked
from stretto.sources.mirror import Mirrors
from stretto.sources.removal import remove_tree
from stretto.sources.usage import mark_used

CHECKOUT_TIMEOUT_S: Final = LOCAL_TIMEOUT_S * 5
"""Filters of the repository (large files) may go to the network."""


LOCK_TIMEOUT_S: Final = NETWORK_TIMEOUT_S
"""For another process that makes a checkout of the same repository, submodules included."""


@frozen
class Checkouts:
    """The checkouts in `directory`, as `<repository>/<commit>`. Any number of tasks and processes at once."""

    directory: Path
    mirrors: Mirrors

    def path(self, address: Address, commit: str) -> Path:
        """Return where the checkout is or would be."""
        return self.directory / address.slug / commit

    async def ensure(self, address: Address, commit: str) -> Path:
        """Return the checkout of `commit` (full hash), made if it isn't there; it is marked as used now.

        SourceError if the commit or a submodule can't be had.
        """
        path = self.path(address, commit)
        if mark_used(path):
            return path
        mirror = await self.mirrors.ensure(address, commit)
        with kept_on_disk(self.directory):
            async with locked(path.parent / ".lock", timeout_s=LOCK_TIMEOUT_S):
                return await self._ensure_locked(address, commit, mirror)

    async def _ensure_locked(self, address: Address, commit: str, mirror: Path) -> Path:
        path = self.path(address, commit)
        if mark_used(path):
            return path
        await asyncio.to_thread(_clear, path)
        try:
            await self._make(address, commit, mirror)
        except SourceError:
            if await self.mirrors.is_sound(address):
                raise
            await self.mirrors.renew(address)
            await self._make(address, commit, await self.mirrors.ensure(address, commit))
        mark_used(path)
        return path

    async def _make(self, address: Address, commit: str, mirror: Path) -> None:
        path = self.path(address, commit)
        work = Path(tempfile.mkdtemp(prefix=f".{commit}.", dir=path.parent))
        try:
            work.chmod(0o755)  # jobs of other users read it too
            refs = await git(
                *("--git-dir", mirror, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags"),
                about=f"the mirror {mirror} can't be read",
            )
            await asyncio.to_thread(_make_git_directory, work / ".git", mirror, address, commit, refs)
            await git(
                *("read-tree", "--reset", "-u", "HEAD"),
                cwd=work,
                environment=address.environment(),
                timeout_s=CHECKOUT_TIMEOUT_S,
                about=f"{address.repository}: commit {commit} can't be checked out",
            )
            if (work / ".gitmodules").is_file():
                await _add_submodules(address, work)
            work.rename(path)
        except BaseException:
            await asyncio.to_thread(remove_tree, work)
            raise


async def _add_submodules(address: Address, work: Path) -> None:
    # A remote repository must not make us read this host's files through the URL of a submodule.
    local = "always" if address.is_local else "never"
    await git(
        *("-c", f"protocol.file.allow={local}", "submodule", "--quiet", "update", "--init", "--recursive"),
        cwd=work,
        environment=address.environment(),
        timeout_s=NETWORK_TIMEOUT_S,
        about=f"{address.repository}: its submodules can't be had",
    )


def _make_git_directory(directory: Path, mirror: Path, address: Address, commit: str, refs: bytes) -> None:
    """Lay out by hand what `git clone` would, without its processes and without a copy of the objects."""
    directory.mkdir()
    (directory / "refs").mkdir()
    hash_format = "sha1" if len(commit) == 40 else "sha256"
    version = "0" if hash_format == "sha1" else "1\n[extensions]\n\tobjectFormat = sha256\n[core]\n\tbare = false"
    url = address.repository.replace("\\", "\\\\").replace('"', '\\"')
    (directory / "config").write_text(
        f"[core]\n\trepositoryFormatVersion = {version}\n\tbare = false\n\tlogAllRefUpdates = false\n"
        f'[remote "origin"]\n\turl = "{url}"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n'
    )
    (directory / "HEAD").write_text(f"{commit}\n")
    (directory / "packed-refs").write_bytes(refs.replace(b" refs/heads/", b" refs/remotes/origin/"))
    if (mirror / "shallow").is_file():
        shutil.copyfile(mirror / "shallow", directory / "shallow")
    _link_objects(mirror / "objects", directory / "objects")


def _link_objects(source: Path, target: Path) -> None:
    """Link all object files. The mirror may be packed meanwhile: what vanishes is then in a pack that was there before."""
    for directory in ("", "info", "pack"):
        (target / directory).mkdir()
    for group in source.iterdir():
        if len(group.name) == 2:
            (target / group.name).mkdir()
            for file in os.scandir(group):
                _link(file.path, f"{target}/{group.name}/{file.name}")
    packs: set[str] = set()
    while (now := _packs(source / "pack")) != packs:
        for name in now - packs:
            _link(f"{source}/pack/{name}", f"{target}/pack/{name}")
        packs = now


def _packs(directory: Path) -> set[str]:
    return {file.name for file in directory.glob("pack-*") if file.suffix != ".keep"}


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        pass  # packed with others meanwhile
    except OSError:  # another file system, one without hard links, or too many links of this file
        shutil.copyfile(source, target)


def _clear(path: Path) -> None:
    """Delete what a killed maker of this checkout left; only the holder of the lock makes such directories."""
    for entry in path.parent.iterdir():
        if entry.name.startswith(f".{path.name}."):
            remove_tree(entry)
