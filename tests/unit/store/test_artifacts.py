"""Artifacts: stored once, shown per attempt, freed with the last run that uses them."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from stretto.core.errors import DiskFullError, StoreError
from stretto.core.ports import ArtifactFile
from stretto.core.spec import AttemptKey
from stretto.store import artifacts as subject
from stretto.store.artifacts import FileArtifacts

KEY = AttemptKey("run1", "build", 1)
OTHER = AttemptKey("run2", "build", 1)


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


async def test_layer_shows_files_as_they_were(store: FileArtifacts, make) -> None:
    """A layer has the contents, modes and links under their paths, and the artifacts say what they are, in order."""
    files = [
        link("bin/latest", "../out/a"),
        make("out/a", b"data"),
        make("bin/tool", b"#!/bin/sh\n", True),
        make("empty", b""),
    ]
    made = await store.add(KEY, files)
    layer = store.layer(KEY)
    assert [item.path for item in made] == [file.path for file in files]
    assert (layer / "out/a").read_bytes() == b"data"
    assert (layer / "bin/latest").readlink() == Path("../out/a")
    assert stat.S_IMODE((layer / "out/a").stat().st_mode) == 0o644
    assert stat.S_IMODE((layer / "bin/tool").stat().st_mode) == 0o755
    assert [item.size_bytes for item in made] == [8, 4, 10, 0]
    assert made[1].digest == hashlib.sha256(b"data").hexdigest()
    assert made[0].digest == hashlib.sha256(b"../out/a").hexdigest()
    assert (made[2].executable, made[0].link) == (True, "../out/a")
    assert store.path(made[1]).read_bytes() == b"data"
    assert list(store._scratch.iterdir()) == []


async def test_same_content_is_stored_once(store: FileArtifacts, make) -> None:
    """Equal contents of any runs share one object; an executable one has its own, as it has its own mode."""
    await store.add(KEY, [make("a", b"same"), make("b", b"same")])
    await store.add(OTHER, [make("c", b"same"), make("d", b"same", True)])
    assert len(objects(store)) == 2
    assert (store.layer(KEY) / "a").stat().st_ino == (store.layer(OTHER) / "c").stat().st_ino


async def test_same_attempt_again_replaces_its_layer(store: FileArtifacts, make) -> None:
    """Storing an attempt's artifacts again leaves only the new ones; none at all leave an empty layer."""
    await store.add(KEY, [make("old", b"1"), make("dir/x", b"2")])
    await store.add(KEY, [make("new", b"3"), make("dir", b"4")])
    assert sorted(path.name for path in store.layer(KEY).iterdir()) == ["dir", "new"]
    await store.add(KEY, [])
    assert list(store.layer(KEY).iterdir()) == []


async def test_delete_frees_what_nobody_else_uses(store: FileArtifacts, make) -> None:
    """With a run go its layers and the objects only it used; the count of bytes is right; again frees nothing."""
    await store.add(KEY, [make("a", b"shared"), make("b", b"mine"), link("l", "a")])
    kept = await store.add(OTHER, [make("c", b"shared"), link("l", "a")])
    freed = await store.delete("run1")
    assert not store.layer(KEY).exists()
    assert (await store.check(kept[0])).read_bytes() == b"shared"
    assert freed >= len(b"mine")
    assert await store.delete("run1") == 0
    await store.delete("run2")
    assert objects(store) == []


async def test_layers_are_copies_where_there_are_no_hard_links(
    store: FileArtifacts, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hard links a layer holds copies, and objects are freed only when no layer names them."""

    def no_links(path: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(subject.Path, "hardlink_to", no_links)
    await store.add(KEY, [make("a", b"shared", True), make("b", b"mine")])
    kept = await store.add(OTHER, [make("c", b"shared", True)])
    assert stat.S_IMODE((store.layer(OTHER) / "c").stat().st_mode) == 0o755
    await store.delete("run1")
    assert objects(store) == [store.path(kept[0])]
    await store.delete("run2")
    assert objects(store) == []


async def test_damage_is_told(store: FileArtifacts, make) -> None:
    """An object that is gone, cut short or changed is named in a StoreError."""
    (made,) = await store.add(KEY, [make("a", b"data")])
    path = store.path(made)
    path.write_bytes(b"dato")
    with pytest.raises(StoreError, match="'a' is damaged"):
        await store.check(made)
    path.write_bytes(b"d")
    with pytest.raises(StoreError, match="1 bytes, not 4"):
        store.path(made)
    path.unlink()
    with pytest.raises(StoreError, match="'a' is gone"):
        store.path(made)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", "a\0b"])
async def test_path_that_leaves_the_layer_is_refused(store: FileArtifacts, make, path: str) -> None:
    """No artifact gets out of its layer, and what was refused leaves nothing."""
    with pytest.raises(StoreError, match="leaves the tree"):
        await store.add(KEY, [ArtifactFile(path, make("x", b"x").source, 1)])
    assert not store.layer(KEY).exists()
    assert list(store._scratch.iterdir()) == []


async def test_file_below_a_link_stays_in_the_layer(store: FileArtifacts, make, tmp_path: Path) -> None:
    """A link out of the layer with a file below it is refused, and nothing is written outside."""
    (tmp_path / "outside").mkdir()
    with pytest.raises(StoreError):
        await store.add(KEY, [link("d", str(tmp_path / "outside")), make("d/x", b"x")])
    assert list((tmp_path / "outside").iterdir()) == []


async def test_full_disk_is_told(store: FileArtifacts, make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room `add` is DiskFullError, no object appears under its name, and no scratch is left."""

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(subject.os, "fsync", full)
    with pytest.raises(DiskFullError):
        await store.add(KEY, [make("a", b"data")])
    assert objects(store) == list(store._scratch.iterdir()) == []


async def test_source_that_is_gone_is_told(store: FileArtifacts) -> None:
    """A file that can't be read is named in a StoreError."""
    with pytest.raises(StoreError, match="/nowhere"):
        await store.add(KEY, [ArtifactFile("a", Path("/nowhere"), 1)])


async def test_names_that_are_no_text_are_kept(store: FileArtifacts, make) -> None:
    """A file name that is no valid UTF-8 comes back as the same bytes."""
    await store.add(KEY, [make("caf\udce9", b"x")])
    assert os.listdir(os.fsencode(store.layer(KEY))) == [b"caf\xe9"]  # noqa: PTH208 - as bytes
