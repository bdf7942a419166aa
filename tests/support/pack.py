"""Packs as a client sends them, and packs that no honest client would."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import zlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

KINDS = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}


def pack_commit(repository: Path, commit: str) -> bytes:
    """Return a pack with the commit and all its files, without its history."""
    tree = _git(repository, "rev-parse", f"{commit}^{{tree}}").decode().strip()
    objects = _git(repository, "rev-list", "--objects", "--no-object-names", tree).decode()
    return _git(repository, "pack-objects", "--stdout", "-q", stdin=f"{commit}\n{objects}".encode())


def object_id(kind: str, data: bytes) -> str:
    """Return the name that git gives the object."""
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()


def tree(entries: Sequence[tuple[str, str, str]]) -> bytes:
    """Return a tree object of entries (mode, name, object id), in the order given."""
    return b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(object) for mode, name, object in entries)


def commit(tree_id: str, *, parent: str | None = None) -> bytes:
    """Return a commit object."""
    above = "" if parent is None else f"parent {parent}\n"
    who = "Mallory <m@example.org> 1700000000 +0000"
    return f"tree {tree_id}\n{above}author {who}\ncommitter {who}\n\nA commit\n".encode()


def make_pack(objects: Sequence[tuple[str, bytes]], *, count: int | None = None) -> bytes:
    """Return a pack of the objects (kind, data), whole ones; `count` is how many it says there are."""
    body = struct.pack(">4sII", b"PACK", 2, len(objects) if count is None else count)
    for kind, data in objects:
        size, first = len(data) >> 4, KINDS[kind] << 4 | len(data) & 15
        while size:
            body += bytes([first | 128])
            first, size = size & 127, size >> 7
        body += bytes([first]) + zlib.compress(data)
    return body + hashlib.sha1(body).digest()


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """Yield the data in pieces."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def _git(repository: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(["git", *arguments], cwd=repository, input=stdin, capture_output=True, check=True, timeout=60)
    return done.stdout
