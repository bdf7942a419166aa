"""Keeps checkouts and mirrors within bounds: the one not used for longest goes first, one in use never.

It is called now and then, not at the end of a run: a tree deleted right before it is made again costs more than it saves.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Set
from datetime import datetime
from pathlib import Path
from typing import Final

from stretto.core.frozen import frozen
from stretto.sources.lock import LockTimeoutError, locked
from stretto.sources.removal import remove_tree
from stretto.sources.usage import take_away, used_at

_LOCK_TIMEOUT_S: Final = 1.0
"""A repository that is busy is left for the next time."""


@frozen
class _Entry:
    """A checkout or mirror. `shared` are its files (device, inode) with several links, each with its size."""

    path: Path
    lock: Path
    used_at: float
    own_bytes: int
    shared: dict[tuple[int, int], int]


async def gc(home: Path, *, keep_newer_than: datetime, max_bytes: int, in_use: Set[Path]) -> int:
    """Delete checkouts and mirrors under `home`, oldest use first, until at most `max_bytes` are left; return bytes freed.

    What is `in_use` or was used after `keep_newer_than` stays, whatever its size. Safe beside runs of other processes.
    """
    entries = sorted(await asyncio.to_thread(_survey, home), key=lambda entry: entry.used_at)
    links = Counter(file for entry in entries for file in entry.shared)
    sizes = {file: size for entry in entries for file, size in entry.shared.items()}
    total = sum(entry.own_bytes for entry in entries) + sum(sizes.values())
    freed = 0
    for entry in entries:
        if total - freed <= max_bytes or entry.used_at > keep_newer_than.timestamp():
            break
        if entry.path in in_use or not await _delete(entry, keep_newer_than.timestamp()):
            continue
        freed += entry.own_bytes
        for file in entry.shared:
            links[file] -= 1
            freed += sizes[file] if links[file] == 0 else 0
    return freed


async def _delete(entry: _Entry, keep_newer_than: float) -> bool:
    try:
        async with locked(entry.lock, timeout_s=_LOCK_TIMEOUT_S):
            scrap = Path(tempfile.mkdtemp(prefix=f".{entry.path.name}.", dir=entry.path.parent))
            taken = await asyncio.to_thread(take_away, entry.path, scrap / "gone", unless_used_after=keep_newer_than)
            await asyncio.to_thread(remove_tree, scrap)
            return taken
    except LockTimeoutError:
        return False


def _survey(home: Path) -> list[_Entry]:
    mirrors, checkouts = home / "mirrors", home / "checkouts"
    places = [(path, path.with_suffix(".lock")) for path in mirrors.glob("[!.]*.git")]
    places += [(path, path.parent / ".lock") for path in checkouts.glob("[!.]*/[!.]*") if path.is_dir()]
    return [_weigh(path, lock) for path, lock in places]


def _weigh(path: Path, lock: Path) -> _Entry:
    own_bytes, shared = 0, {}
    pending = [str(path)]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except FileNotFoundError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            if status.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                shared[status.st_dev, status.st_ino] = status.st_blocks * 512
            else:
                own_bytes += status.st_blocks * 512
    return _Entry(path, lock, used_at(path), own_bytes, shared)
