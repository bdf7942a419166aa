"""Takes in a source tree that somebody sends: a git pack with one commit. What is in it is a stranger's until it is checked.

Before anything is checked out it is known that the pack is whole and well-formed (`git index-pack --strict`: no path with `..` or
`.git`, no evil `.gitmodules`), that the commit is in it with all its files, and how many files of which size a checkout has: a
pack of a few kilobytes can hold a tree that shows the same directory ten thousand million times.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import shutil
import struct
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from stretto.core.errors import SourceError, TooLargeError
from stretto.sources.command import Bounds, Completed, failure, git, run, stream
from stretto.sources.disk import kept_on_disk
from stretto.sources.removal import remove_tree

DRAFTS: Final = "uploads"
DRAFT_PREFIX: Final = ".draft-"
GIT_BOUNDS: Final = Bounds(memory_bytes=3 << 30, cpu_s=600)
"""A delta of some bytes may ask for gigabytes, and a compressed block for hours."""
CHECK_TIMEOUT_S: Final = 900.0

_HEADER: Final = struct.Struct(">4sII")
"""Of a pack: its signature, version and number of objects (gitformat-pack(5))."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a checkout of an uploaded commit may come to. The largest public trees have half a million files."""

    objects: int = 2_000_000
    entries: int = 1_000_000
    """Files and directories."""
    checkout_bytes: int = 16 << 30
    path_bytes: int = 3_000
    """A file system takes paths of 4,096, that of the checkout included."""


async def receive(data: AsyncIterator[bytes], target: Path, *, limit_bytes: int) -> tuple[str, int]:
    """Write what comes to the file `target`, on disk when this returns; return its SHA-256 and size. TooLargeError."""
    digest, size = hashlib.sha256(), 0
    with target.open("xb", buffering=0) as file:
        async for piece in data:
            size += len(piece)
            if size > limit_bytes:
                raise TooLargeError(
                    f"the uploaded tree has more than {limit_bytes / (1 << 20):.0f} MiB",
                    hint="push it, or raise api.max_upload_mb on the server",
                )
            digest.update(piece)
            await asyncio.to_thread(_write, file, piece)
        with kept_on_disk(target):
            await asyncio.to_thread(os.fsync, file.fileno())
    return digest.hexdigest(), size


async def build(pack: Path, commit: str, target: Path, *, strict: bool = False) -> None:
    """Make the bare repository `target` of a pack that holds `commit` without its history; SourceError if it can't be.

    With `strict` every object is looked into. The pack's file is linked where the file system has links: nobody writes to it.
    """
    about = "the uploaded pack can't be used"
    hash_format = "sha1" if len(commit) == 40 else "sha256"
    await git("init", "--quiet", "--bare", "--template=", f"--object-format={hash_format}", target, about=about)
    (target / "shallow").write_text(f"{commit}\n")
    inside = target / "objects" / "pack" / "pack-upload.pack"
    await asyncio.to_thread(_link, pack, inside)
    done = await run(
        *_quiet(target, "index-pack", *(["--strict"] if strict else []), inside),
        timeout_s=CHECK_TIMEOUT_S,
        bounds=GIT_BOUNDS,
    )
    if done.code != 0:
        raise failure(about, _told(done))
    await git("--git-dir", target, "update-ref", f"refs/stretto/{commit}", commit, about=f"{about}: no commit {commit}")


async def check(pack: Path, commit: str, target: Path, *, limits: Limits | None = None) -> None:
    """Make the bare repository `target` of the pack, if a checkout of `commit` is whole and harmless; SourceError."""
    limits = limits or Limits()
    await asyncio.to_thread(_check_header, pack, limits)
    await build(pack, commit, target, strict=True)
    await _check_entries(target, commit, limits)
    about = "the uploaded pack is not whole"
    kinds = await git(
        *_quiet(target, "cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objecttype)"),
        bounds=GIT_BOUNDS,
        about=about,
    )
    if (commits := kinds.count(b"commit\n")) != 1:
        raise SourceError(f"the uploaded pack holds {commits} commits, not one", hint="send the one commit to run")
    await git(*_quiet(target, "rev-list", "--objects", "--quiet", commit), bounds=GIT_BOUNDS, about=about)


async def _check_entries(target: Path, commit: str, limits: Limits) -> None:
    """Walk over all paths of the commit, directories without files too, no further than the limits go."""
    count = size = 0
    rest = b""
    listing = stream(
        *_quiet(target, "ls-tree", "-r", "-t", "-l", "-z", "--full-tree", commit),
        timeout_s=CHECK_TIMEOUT_S,
        bounds=GIT_BOUNDS,
        about="the uploaded tree can't be read",
    )
    try:
        async for piece in listing:
            *lines, rest = (rest + piece).split(b"\0")
            count += len(lines)
            for line in lines:
                facts, _, path = line.partition(b"\t")
                text = facts.split()[3]
                if text.isdigit():  # "-" for what is no file
                    size += int(text)
                if len(path) > limits.path_bytes:
                    raise TooLargeError(f"the uploaded tree has a path of {len(path)} bytes")
            if count > limits.entries:
                raise TooLargeError(f"the uploaded tree has more than {limits.entries} files and directories")
            if size > limits.checkout_bytes:
                raise TooLargeError(f"the files of the uploaded tree have more than {limits.checkout_bytes >> 20} MiB")
    finally:
        await listing.aclose()


def clear_drafts(directory: Path, older_than: datetime) -> None:
    """Delete what was left of uploads whose receiver was killed."""
    for draft in directory.glob(f"{DRAFT_PREFIX}*"):
        try:
            if draft.stat().st_mtime < older_than.timestamp():
                remove_tree(draft)
        except FileNotFoundError:
            continue  # it was in use, and is done


def make_draft(directory: Path) -> Path:
    """Return a new directory in `directory` for what comes; DiskFullError, StoreError."""
    with kept_on_disk(directory):
        directory.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=DRAFT_PREFIX, dir=directory))


def _write(file: io.FileIO, piece: bytes) -> None:
    with kept_on_disk(Path(str(file.name))):
        rest = memoryview(piece)
        while rest:
            rest = rest[file.write(rest) :]


def _check_header(pack: Path, limits: Limits) -> None:
    with pack.open("rb") as file:
        header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or header[:4] != b"PACK":
        raise SourceError("what was uploaded is no git pack")
    if (count := _HEADER.unpack(header)[2]) > limits.objects:
        raise TooLargeError(f"the uploaded pack has {count} objects; at most {limits.objects} are taken")


def _quiet(target: Path, *arguments: str | Path) -> tuple[str | Path, ...]:
    """Return the arguments of a git that maps little of a pack at once, so that its memory can be bounded."""
    settings = (
        "core.packedGitWindowSize=32m",
        "core.packedGitLimit=256m",
        "core.bigFileThreshold=64m",
        "pack.threads=1",
    )
    return (*(word for setting in settings for word in ("-c", setting)), "--git-dir", target, *arguments)


def _told(done: Completed) -> Completed:
    """Return what git says, or what it died of where it had no time to."""
    return done if done.error else Completed(done.code, b"", "git ran out of memory or time over it")


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
    target.chmod(0o444)
