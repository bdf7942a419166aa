"""Repositories: from what a person names to one commit, its files, and a checkout of it.

This is the only module of `sources` that others need for git; it talks to no database and knows no run but by its spec.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Final

from stretto.core.errors import SourceError
from stretto.core.run import Run
from stretto.core.spec import SourceSpec
from stretto.core.upload import Pack, Upload
from stretto.sources.address import Address, Uploaded, parse
from stretto.sources.checkout import Checkouts
from stretto.sources.command import git
from stretto.sources.disk import kept_on_disk
from stretto.sources.garbage import gc
from stretto.sources.mirror import Mirrors, Packs
from stretto.sources.removal import remove_tree
from stretto.sources.resolution import ResolvedSource, check_names, read_message, resolve_local, resolve_remote
from stretto.sources.snapshot import dirty, working_tree_commit
from stretto.sources.upload import DRAFTS, check, clear_drafts, make_draft, receive

MAX_FILE_BYTES: Final = 10 * 1024 * 1024
"""What `read_file` reads at most unless told otherwise."""

CHECKS: Final = 2
"""How many uploaded packs are looked into at a time: each may take what `upload.GIT_BOUNDS` allows."""

_LINK_MODE: Final = "120000"

_Entries = dict[str, tuple[str, str, str, int]]
"""Mode, kind, hash and size by path."""


class Repositories:
    """Git repositories, with what is kept of them under `home`. Any number of tasks and processes at once.

    Fulfils the port `Trees`.
    """

    def __init__(self, home: Path, packs: Packs | None = None) -> None:
        """`packs` gives the packs of uploads; None where there are none."""
        self._home = home
        self.mirrors = Mirrors(home / "mirrors", packs)
        self.checkouts = Checkouts(home / "checkouts", self.mirrors)
        self._checks = asyncio.Semaphore(CHECKS)
        self._latest: tuple[tuple[str, str], _Entries] = (("", ""), {})
        """What was listed last: a file of that directory is read with one process of git less."""

    async def resolve(
        self,
        reference: str | Path | None,
        *,
        branch: str | None = None,
        commit: str | None = None,
        working_tree: bool = False,
        cwd: Path,
    ) -> ResolvedSource:
        """Return the commit that is meant; SourceError if there is none, and then nothing is left on disk.

        `reference` None means the repository that holds `cwd`. `branch` may be a tag (a branch of the same name comes first).
        Without `branch` and `commit` it is HEAD. `working_tree` takes the files of a local repository as they are.
        """
        check_names(branch, commit)
        address = parse(cwd if reference is None else reference, cwd)
        if not working_tree:
            if address.is_local:
                return await resolve_local(address, branch, commit)
            return await resolve_remote(address, branch, commit, self.mirrors)
        if branch is not None or commit is not None or not address.is_local:
            raise SourceError("the working tree is that of a local repository, and has no other branch or commit")
        source = await resolve_local(address, None, None)
        if source.top is None:
            raise SourceError(f"{source.address.repository} is bare: it has no working tree")
        snapshot = await resolve_local(address, None, await working_tree_commit(source.top))
        return replace(snapshot, spec=replace(snapshot.spec, branch=source.spec.branch))

    async def resolve_upload(self, upload: Upload) -> ResolvedSource:
        """Return the commit of an upload, whose pack is brought here if need be."""
        spec = SourceSpec(upload.repository, upload.commit, upload.commit_message, upload.branch, upload=upload.digest)
        address = _address(spec)
        return ResolvedSource(spec, address, await self.mirrors.ensure(address, upload.commit))

    @asynccontextmanager
    async def receive_pack(
        self, data: AsyncIterator[bytes], *, commit: str, digest: str | None, limit_bytes: int
    ) -> AsyncIterator[Pack]:
        """Write down what comes and check it; see `core.ports.Repositories`. Its mirror is there afterwards."""
        draft = await asyncio.to_thread(make_draft, self._home / DRAFTS)
        try:
            path, mirror = draft / "pack", draft / "mirror"
            found, size = await receive(data, path, limit_bytes=limit_bytes)
            if digest not in (None, found):
                raise SourceError("what came has another SHA-256 than was said", hint="send it again")
            with kept_on_disk(draft):
                async with self._checks:
                    await check(path, commit, mirror)
                address = Address("the upload", uploaded=Uploaded(found, commit))
                message = await read_message(mirror, commit, address)
                await self.mirrors.install(address, mirror)
            yield Pack(path, found, size, message)
        finally:
            await asyncio.to_thread(remove_tree, draft)

    async def read_file(self, source: ResolvedSource, path: str, *, limit_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Return a file of the commit, without a checkout.

        SourceError if it isn't there, is no regular file (a symbolic link is none) or has more than `limit_bytes`.
        """
        name = _inside(path)
        about = f"{source.spec.repository}: {name} of {source.spec.commit[:12]}"
        folder = name[: name.rfind("/") + 1]
        listed, entries = self._latest
        if listed != (source.spec.commit, folder):
            entries = await self._list(source, name, about)
        mode, kind, digest, size = entries.get(name, ("", "", "", 0))
        if not mode:
            raise SourceError(f"{about}: no such file")
        if kind != "blob" or mode == _LINK_MODE:
            what = {"tree": "a directory", "commit": "a submodule"}.get(kind, "a symbolic link")
            raise SourceError(f"{about} is {what}, not a file")
        if size > limit_bytes:
            raise SourceError(f"{about} has {size} bytes; at most {limit_bytes} are read")
        return await git("--git-dir", source.git_directory, "cat-file", "blob", digest, about=about)

    async def list_files(self, source: ResolvedSource, directory: str) -> list[str]:
        """Return the paths of the regular files right in a directory of the commit, sorted; none if it isn't there."""
        name = "" if directory in ("", ".") else _inside(directory) + "/"
        about = f"{source.spec.repository}: {name or 'the root'} of {source.spec.commit[:12]}"
        entries = await self._list(source, name, about)
        self._latest = (source.spec.commit, name), entries
        return sorted(path for path, (mode, kind, _, _) in entries.items() if kind == "blob" and mode != _LINK_MODE)

    async def list_working_tree(self, source: ResolvedSource, directory: str) -> list[str]:
        """Return the paths of the regular files right in a directory of the working tree, sorted; none if it isn't there."""
        if source.top is None:
            return []
        folder = source.top / ("" if directory in ("", ".") else _inside(directory))
        return await asyncio.to_thread(_list_folder, source.top, folder)

    async def has_changes(self, reference: str | Path | None, *, cwd: Path) -> bool:
        """Say whether a working tree differs from its HEAD; False for a repository elsewhere or without working tree."""
        try:
            address = parse(cwd if reference is None else reference, cwd)
            return address.path is not None and await dirty(address.path)
        except SourceError:
            return False

    async def checkout(self, run: Run) -> Path | None:
        """Return a shared read-only checkout of the run's commit, made on first use; None where the run has no source."""
        return None if run.spec.source is None else await self.checkout_source(run.spec.source)

    async def checkout_source(self, source: SourceSpec | ResolvedSource) -> Path:
        """Return a shared read-only checkout, made on first use, from the mirror alone if that has the commit."""
        if isinstance(source, ResolvedSource):
            return await self.checkouts.ensure(source.address, source.spec.commit)
        return await self.checkouts.ensure(_address(source), source.commit)

    async def forget(self, source: ResolvedSource) -> None:
        """Delete the mirror that `resolve` made for this source, unless another task or process uses it by now."""
        if source.fetched_at is not None:
            await self.mirrors.forget(source.address, source.fetched_at)

    async def gc(self, *, keep_newer_than: datetime, max_bytes: int, in_use: Iterable[SourceSpec]) -> int:
        """Delete checkouts and mirrors, as `garbage.gc` has it; those of the commits `in_use` stay."""
        kept = {self.checkouts.path(_address(source), source.commit) for source in in_use}
        await asyncio.to_thread(clear_drafts, self._home / DRAFTS, keep_newer_than)
        return await gc(self._home, keep_newer_than=keep_newer_than, max_bytes=max_bytes, in_use=kept)

    async def _list(self, source: ResolvedSource, path: str, about: str) -> _Entries:
        """Return mode, kind, hash and size of what is at `path` (a directory's content if it ends with a slash)."""
        where = ("--git-dir", source.git_directory)
        paths = ("--", path) if path else ()
        out = await git(*where, "ls-tree", "-z", "-l", "--full-tree", source.spec.commit, *paths, about=about)
        entries: _Entries = {}
        for line in out.decode("utf-8", "surrogateescape").split("\0")[:-1]:
            facts, _, name = line.partition("\t")
            mode, kind, digest, size = facts.split()
            entries[name] = (mode, kind, digest, int(size) if size != "-" else 0)
        return entries


def _address(source: SourceSpec) -> Address:
    """Return where the source that is on record comes from."""
    if source.upload is not None:
        return Address(source.repository, uploaded=Uploaded(source.upload, source.commit))
    local = source.repository.startswith("/")
    return parse(Path(source.repository) if local else source.repository, Path("/"))


def _list_folder(top: Path, folder: Path) -> list[str]:
    try:
        paths = [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
    except OSError:
        return []
    return sorted(path.relative_to(top).as_posix() for path in paths)


def _inside(path: str) -> str:
    """Return `path` in its plain form; SourceError if it leaves the repository."""
    pure = PurePosixPath(path)
    if not path or "\0" in path or pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise SourceError(
            f"{path!r} is not a path within the repository", hint="give it relative to the repository's root"
        )
    return str(pure)
