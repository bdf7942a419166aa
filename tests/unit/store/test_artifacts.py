"""Artifacts in files: without hard links, damaged, on a full disk. What all stores must do is in tests/conformance."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stretto.core.errors import DiskFullError, NotFoundError, StoreError
from stretto.core.ports import ArtifactFile
from stretto.core.spec import AttemptKey
from stretto.store import artifacts as subject
from stretto.store.artifacts import FileArtifacts

KEY = AttemptKey("run1", "build", 1)
OTHER = AttemptKey("run2", "build", 1)
NOW = datetime.now(UTC)


@pytest.fixture
def store(tmp_path: Path) -> FileArtifacts:
    return FileArtifacts(tmp_path / "artifacts")


@pytest.fixture
def make(tmp_path: Path):
    """A function that makes a file to be stored: path, content, whether executable."""

    def make_one(path: str, content: bytes, executable: bool = False) -> ArtifactFile:
        source = tmp_path / "tree" / hashlib.sha256(os.fsencode(path) + content).hexdigest()
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(content)
        return ArtifactFile(path, source, len(content), executable)

    return make_one


def objects(store: FileArtifacts) -> list[Path]:
    return [path for path in store._objects.rglob("*") if path.is_file()]


def link(path: str, target: str) -> ArtifactFile:
    return ArtifactFile(path, Path("/nowhere"), 0, link=target)


async def test_layers_are_copies_where_there_are_no_hard_links(
    store: FileArtifacts, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hard links a layer holds copies, and objects are freed only when no layer names them."""

    def no_links(path: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(subject.Path, "hardlink_to", no_links)
    await store.add(KEY, [make("a", b"shared", True), make("b", b"mine")])
    kept = await store.add(OTHER, [make("c", b"shared", True)])
    assert stat.S_IMODE((await store.layer(OTHER, kept) / "c").stat().st_mode) == 0o755
    await store.delete("run1")
    assert objects(store) == [await store.path(kept[0])]
    await store.delete("run2")
    assert objects(store) == []


async def test_damage_is_told(store: FileArtifacts, make) -> None:
    """An object that is gone, cut short or changed is named in the error."""
    (made,) = await store.add(KEY, [make("a", b"data")])
    path = await store.path(made)
    path.write_bytes(b"dato")
    with pytest.raises(StoreError, match="'a' is damaged"):
        await store.check(made)
    path.write_bytes(b"d")
    with pytest.raises(StoreError, match="1 bytes, not 4"):
        await store.path(made)
    path.unlink()
    with pytest.raises(NotFoundError, match="'a' is gone"):
        await store.path(made)


async def test_full_disk_is_told(store: FileArtifacts, make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room `add` is DiskFullError, no object appears under its name, and no scratch is left."""

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(subject.os, "fsync", full)
    with pytest.raises(DiskFullError):
        await store.add(KEY, [make("a", b"data")])
    assert objects(store) == list(store._scratch.iterdir()) == []


async def test_sweep_deletes_what_no_run_needs(store: FileArtifacts, make) -> None:
    """Layers of runs that are off the record, objects without a layer and drafts go once they are old; nothing else does."""
    kept = await store.add(KEY, [make("a", b"kept")])
    await store.add(OTHER, [make("b", b"gone")])
    (lost,) = await store.add(AttemptKey("run3", "build", 1), [make("c", b"lost")])
    await store.sweep({"run1", "run2"}, NOW - timedelta(days=1))
    assert (await store.path(lost)).exists()  # it may be about to be used
    draft = store.new_draft()
    draft.write_bytes(b"half")
    later = NOW + timedelta(days=1)
    assert await store.sweep({"run1"}, later) >= len(b"gone") + len(b"lost")
    assert objects(store) == [await store.path(kept[0])]
    assert not draft.exists()
    assert await store.sweep({"run1"}, later) == 0


async def test_layer_that_is_gone_is_made_of_the_objects(store: FileArtifacts, make) -> None:
    """A layer is made again of what its objects still hold, and an object that is gone is told."""
    made = await store.add(KEY, [make("a/b", b"one"), make("tool", b"two", True), link("l", "a/b")])
    layer = await store.layer(AttemptKey("run1", "build", 2), made)
    assert ((layer / "a/b").read_bytes(), (layer / "l").read_bytes()) == (b"one", b"one")
    assert stat.S_IMODE((layer / "tool").stat().st_mode) == 0o755
    assert await store.find(made[2]) is None
    (await store.path(made[0])).unlink()
    assert await store.find(made[0]) is None
    with pytest.raises(StoreError):
        await store.layer(AttemptKey("run1", "build", 3), made)
    assert list(store._scratch.iterdir()) == []
