"""Keeps one bare mirror per repository, which checkouts are made from.

A mirror owns its objects: those of a repository on the same file system are hard-linked at first, never borrowed, so that
the original may be collected or deleted. It is made under another name and renamed, so that it is whole or not there.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from stretto.core.errors import NotFoundError, SourceError
from stretto.core.frozen import frozen
from stretto.sources.address import Address, Uploaded
from stretto.sources.command import LOCAL_TIMEOUT_S, NETWORK_TIMEOUT_S, failure, git, run
from stretto.sources.disk import kept_on_disk
from stretto.sources.lock import locked
from stretto.sources.removal import remove_tree
from stretto.sources.upload import build
from stretto.sources.usage import mark, mark_used, take_away

log = logging.getLogger(__name__)

MAX_LOOSE_OBJECTS: Final = 500
MAX_PACKS: Final = 50
"""A checkout links every object file of its mirror (20 µs each): above these, they are packed at the next fetch."""

KEPT_REFS: Final = "refs/stretto/"
"""Commits that no branch or tag holds, such as those of a working tree, are kept from git's own collection by these."""

_UNKNOWN_COMMIT: Final = ("not our ref", "unadvertised object", "couldn't find remote ref", "no such remote ref")
"""What git's upload-pack and fetch say of a commit that the other side does not have."""


Packs = Callable[[str, Path], Awaitable[None]]
"""Makes the file with the uploaded pack of a digest, on a host that did not receive it."""


class UnknownCommitError(SourceError):
    """The repository was reached, and has no such commit."""


@frozen
class Mirrors:
    """The mirrors in `directory`. Any number of tasks and processes at once. `packs` gives those of uploads."""

    directory: Path
    packs: Packs | None = None
    lock_timeout_s: float = NETWORK_TIMEOUT_S
    fetch_timeout_s: float = NETWORK_TIMEOUT_S

    def path(self, address: Address) -> Path:
        """Return where the repository's mirror is or would be."""
        return self.directory / f"{address.slug}.git"

    async def has(self, address: Address, commit: str) -> bool:
        """Say whether the mirror holds `commit`, without going to the repository."""
        mirror = self.path(address)
        if not mark_used(mirror):
            return False
        return (await run("--git-dir", mirror, "cat-file", "-e", f"{commit}^{{commit}}")).code == 0

    async def ensure(self, address: Address, commit: str) -> Path:
        """Return the mirror, holding the whole `commit` (full hash); fetch what is missing, and nothing if nothing is.

        SourceError if the repository can't be read or has no such commit. A mirror that this call made is then gone.
        """
        if await self.has(address, commit):
            return self.path(address)
        mirror = self.path(address)
        async with self._locked(address):
            made = not mirror.is_dir()
            if made:
                await self._make(address)
            try:
                if not await self.has(address, commit):  # another process may have fetched it while we waited
                    await self._update(address, commit)
            except BaseException:
                if made:
                    await asyncio.to_thread(self._discard, address)
                raise
        return mirror

    async def refresh(self, address: Address) -> Path:
        """Return the mirror with all branches and tags as they are now; one that this call made is gone if it fails."""
        async with self._locked(address):
            if mark_used(self.path(address)):
                await self._update(address, None)
            else:
                await self._make(address)
        return self.path(address)

    async def discard(self, address: Address) -> None:
        """Delete the mirror."""
        async with self._locked(address):
            await asyncio.to_thread(self._discard, address)

    async def forget(self, address: Address, last_used: float) -> None:
        """Delete the mirror, unless somebody used it after `last_used` (POSIX time)."""
        mirror = self.path(address)
        async with self._locked(address):
            work = Path(tempfile.mkdtemp(prefix=f".{mirror.name}.", dir=self.directory))
            try:
                if await asyncio.to_thread(take_away, mirror, work / "old", unless_used_after=last_used):
                    self._lock(address).unlink(missing_ok=True)
            finally:
                await asyncio.to_thread(remove_tree, work)

    async def renew(self, address: Address) -> Path:
        """Make the mirror anew; the old one is replaced only when the new one is whole."""
        async with self._locked(address):
            await self._make(address)
        return self.path(address)

    async def install(self, address: Address, ready: Path) -> None:
        """Make the bare repository `ready`, on the same file system, the mirror of an upload, unless it has one."""
        async with self._locked(address):
            if not mark_used(self.path(address)):
                ready.rename(self.path(address))
                mark_used(self.path(address))

    async def is_sound(self, address: Address) -> bool:
        """Say whether every object that the mirror needs is there. Takes as long as the history."""
        check = await run("--git-dir", self.path(address), "fsck", "--connectivity-only", "--no-dangling")
        return check.code == 0

    @asynccontextmanager
    async def _locked(self, address: Address) -> AsyncIterator[None]:
        with kept_on_disk(self.directory):
            async with locked(self._lock(address), timeout_s=self.lock_timeout_s):
                yield

    def _discard(self, address: Address) -> None:
        """Leave nothing of the mirror; its lock must be held."""
        remove_tree(self.path(address))
        for file in (mark(self.path(address)), self._lock(address)):
            file.unlink(missing_ok=True)

    def _lock(self, address: Address) -> Path:
        return self.directory / f"{address.slug}.lock"

    async def _make(self, address: Address) -> None:
        mirror = self.path(address)
        await asyncio.to_thread(_clear, self.directory, f".{mirror.name}.")
        work = Path(tempfile.mkdtemp(prefix=f".{mirror.name}.", dir=self.directory))
        try:
            new = work / "new"
            if address.uploaded is not None:
                await self._unpack(address, address.uploaded, work / "pack", new)
            else:
                await self._clone(address, new)
            if mirror.exists():
                mirror.rename(work / "old")
            new.rename(mirror)
        finally:
            await asyncio.to_thread(remove_tree, work)

    async def _unpack(self, address: Address, uploaded: Uploaded, pack: Path, new: Path) -> None:
        if self.packs is None:
            raise SourceError(f"{address.repository}: commit {uploaded.commit[:12]} was uploaded to another server")
        try:
            await self.packs(uploaded.digest, pack)
        except NotFoundError as error:
            raise SourceError(f"{address.repository}: the uploaded tree is not kept any more") from error
        await build(pack, uploaded.commit, new)

    async def _clone(self, address: Address, new: Path) -> None:
        # Objects of a local path are hard-linked where that can be, else copied (--local would insist on links).
        # --dissociate: a repository that borrows objects from a third one must not make us borrow them too.
        await git(
            *("clone", "--quiet", "--bare", "--template=", "--dissociate", "--", address.repository, new),
            environment=address.environment(),
            timeout_s=self.fetch_timeout_s,
            about=f"{address.repository} can't be cloned",
        )

    async def _update(self, address: Address, commit: str | None) -> None:
        """Fetch; a mirror found broken on the way is made anew."""
        if address.uploaded is not None:
            return await self._make(address)  # nothing is missing from an upload's mirror, unless it is broken
        try:
            await self._fetch(address, commit)
        except UnknownCommitError:
            raise
        except SourceError:
            if await self.is_sound(address):
                raise
            log.warning("a mirror is broken and is made anew", extra={"repository": address.repository})
            await self._make(address)
            if commit is not None:
                await self._fetch(address, commit)

    async def _fetch(self, address: Address, commit: str | None) -> None:
        mirror = self.path(address)
        await asyncio.to_thread(_unlock, mirror)
        await self._tidy(mirror)
        branches = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        alone = () if commit is None else (f"+{commit}:{KEPT_REFS}{commit}",)
        # A local repository surely gives any commit, so that one process does; a server is asked for what all may have.
        await self._fetch_refs(address, (*branches, *alone) if address.is_local else branches)
        if commit is not None and not await self.has(address, commit):
            await self._fetch_refs(address, alone)

    async def _fetch_refs(self, address: Address, refs: tuple[str, ...]) -> None:
        mirror = self.path(address)
        done = await run(
            *("-c", "fetch.unpackLimit=1", "--git-dir", mirror, "fetch", "--quiet", "--force", "--prune", "--no-tags"),
            *("--no-write-fetch-head", "--no-recurse-submodules", "--", address.repository, *refs),
            environment=address.environment(),
            timeout_s=self.fetch_timeout_s,
        )
        if done.code != 0 and any(text in done.error for text in _UNKNOWN_COMMIT):
            raise UnknownCommitError(f"{address.repository} has no commit {refs[-1].rpartition('/')[2]}")
        if done.code != 0:
            raise failure(f"{address.repository} can't be fetched", done)

    async def _tidy(self, mirror: Path) -> None:
        loose, packs = await asyncio.to_thread(_count_objects, mirror / "objects")
        if loose > MAX_LOOSE_OBJECTS or packs > MAX_PACKS:
            await git(
                *("--git-dir", mirror, "repack", "-d", "-l", "-q", "--geometric=2"),
                timeout_s=LOCAL_TIMEOUT_S * 5,
                about=f"the mirror {mirror} can't be packed",
            )


def _clear(directory: Path, prefix: str) -> None:
    """Delete what a killed maker left. Only the holder of the mirror's lock makes such directories."""
    for path in directory.iterdir():
        if path.name.startswith(prefix):
            remove_tree(path)


def _unlock(mirror: Path) -> None:
    """Delete git's own lock files: whoever holds the mirror's lock knows that their makers were killed."""
    for path in (*mirror.glob("*.lock"), *(mirror / "refs").rglob("*.lock"), *mirror.glob("objects/pack/tmp_*")):
        path.unlink(missing_ok=True)


def _count_objects(objects: Path) -> tuple[int, int]:
    loose = sum(1 for _ in objects.glob("[0-9a-f][0-9a-f]/*"))
    return loose, sum(1 for _ in objects.glob("pack/*.pack"))
