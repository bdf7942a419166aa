"""What every artifact store must do, and what hosts that share one must have of each other."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import stat
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stretto.core.errors import NotFoundError, StoreError
from stretto.core.ports import ArtifactFile, ArtifactStore
from stretto.core.spec import AttemptKey
from stretto.store.shared import SharedArtifacts

from .artifacts.harness import FilesHarness, SharedHarness

KEY = AttemptKey("run1", "build", 1)
OTHER = AttemptKey("run2", "build", 1)
MIB = 1 << 20
TOMORROW = datetime.now(UTC) + timedelta(days=1)
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture(params=["files", pytest.param("shared", marks=pytest.mark.postgres)])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FilesHarness | SharedHarness]:
    harness = FilesHarness(tmp_path) if request.param == "files" else SharedHarness(tmp_path)
    yield harness
    harness.drop()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedHarness]:
    harness = SharedHarness(tmp_path)
    yield harness
    harness.drop()


@pytest.fixture
async def store(harness) -> AsyncIterator[ArtifactStore]:
    async with harness.open() as store:
        yield store


@pytest.fixture
async def hosts(shared: SharedHarness) -> AsyncIterator[list[SharedArtifacts]]:
    """Two hosts over one database."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(shared.open(name)) for name in ("one", "two")]


@pytest.fixture
def make(tmp_path: Path):
    """A function that makes a file to be stored: path, content, whether executable."""

    def make_one(path: str, content: bytes, executable: bool = False) -> ArtifactFile:
        source = tmp_path / "tree" / hashlib.sha256(os.fsencode(path) + content).hexdigest()
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(content)
        return ArtifactFile(path, source, len(content), executable)

    return make_one


def link(path: str, target: str) -> ArtifactFile:
    return ArtifactFile(path, Path("/nowhere"), 0, link=target)


def everything(make) -> list[ArtifactFile]:
    return [
        link("bin/latest", "../out/a"),
        make("out/a", b"data"),
        make("bin/tool", b"#!/bin/sh\n", True),
        make("copy", b"#!/bin/sh\n"),
        make("empty", b""),
        make("caf\udce9", b"x"),
    ]


def check_everything(layer: Path) -> None:
    assert (layer / "out/a").read_bytes() == b"data"
    assert (layer / "bin/latest").readlink() == Path("../out/a")
    assert stat.S_IMODE((layer / "out/a").stat().st_mode) == 0o644
    assert stat.S_IMODE((layer / "bin/tool").stat().st_mode) == 0o755
    assert stat.S_IMODE((layer / "copy").stat().st_mode) == 0o644
    assert (layer / "copy").read_bytes() == (layer / "bin/tool").read_bytes() == b"#!/bin/sh\n"
    assert (layer / "empty").read_bytes() == b""
    assert b"caf\xe9" in os.listdir(os.fsencode(layer))  # noqa: PTH208 - as bytes


# ------------------------------------------------------------------------------------------------------- every store


async def test_layer_shows_files_as_they_were(store: ArtifactStore, make) -> None:
    """A layer has the contents, modes and links under their paths, and the artifacts say what they are, in order."""
    files = everything(make)
    made = await store.add(KEY, files)
    check_everything(await store.layer(KEY, made))
    assert [item.path for item in made] == [file.path for file in files]
    assert [item.size_bytes for item in made] == [8, 4, 10, 10, 0, 1]
    assert made[1].digest == hashlib.sha256(b"data").hexdigest()
    assert made[0].digest == hashlib.sha256(b"../out/a").hexdigest()
    assert (made[2].executable, made[3].executable, made[0].link) == (True, False, "../out/a")
    assert (await store.path(made[1])).read_bytes() == b"data"
    assert await store.find(made[0]) is None


async def test_same_attempt_again_replaces_its_layer(store: ArtifactStore, make) -> None:
    """Storing an attempt's artifacts again leaves only the new ones."""
    await store.add(KEY, [make("old", b"1"), make("dir/x", b"2")])
    made = await store.add(KEY, [make("new", b"3"), make("dir", b"4")])
    assert sorted(path.name for path in (await store.layer(KEY, made)).iterdir()) == ["dir", "new"]
    assert await store.add(KEY, []) == ()


async def test_delete_frees_what_nobody_else_uses(store: ArtifactStore, make) -> None:
    """With a run go its layers and the objects only it used; again frees nothing; what is shared stays."""
    await store.add(KEY, [make("a", b"shared"), make("b", b"mine"), link("l", "a")])
    kept = await store.add(OTHER, [make("c", b"shared"), link("l", "a")])
    assert await store.delete("run1") >= len(b"mine")
    assert await store.delete("run1") == 0
    assert (await store.path(kept[0])).read_bytes() == b"shared"
    assert (await store.layer(OTHER, kept) / "c").read_bytes() == b"shared"


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", "a\0b"])
async def test_path_that_leaves_the_layer_is_refused(store: ArtifactStore, make, path: str) -> None:
    """No artifact gets out of its layer."""
    with pytest.raises(StoreError, match="leaves the tree"):
        await store.add(KEY, [ArtifactFile(path, make("x", b"x").source, 1)])


async def test_file_below_a_link_stays_in_the_layer(store: ArtifactStore, make, tmp_path: Path) -> None:
    """A link out of the layer with a file below it is refused, and nothing is written outside."""
    (tmp_path / "outside").mkdir()
    with pytest.raises(StoreError):
        await store.add(KEY, [link("d", str(tmp_path / "outside")), make("d/x", b"x")])
    assert list((tmp_path / "outside").iterdir()) == []


async def test_source_that_is_gone_is_told(store: ArtifactStore) -> None:
    """A file that can't be read is named in a StoreError."""
    with pytest.raises(StoreError, match="/nowhere"):
        await store.add(KEY, [ArtifactFile("a", Path("/nowhere"), 1)])


async def test_layers_are_made_once_for_all_who_ask(harness, make) -> None:
    """Many tasks and stores that want the same layer at once get the same whole one."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(harness.open()) for _ in range(2)]
        made = await stores[0].add(KEY, everything(make))
        key = AttemptKey("run3", "again", 1)  # a run that keeps what an earlier one made
        layers = await asyncio.gather(*(store.layer(key, made) for store in stores * 5))
        assert len(set(layers)) == 1
        check_everything(layers[0])


# ------------------------------------------------------------------------------------------------- hosts that share


@pytest.mark.postgres
async def test_other_host_has_layers_and_files(hosts: list[SharedArtifacts], make) -> None:
    """What one host added another can show and read, after the first one lost its disk too."""
    one, two = hosts
    made = await one.add(KEY, everything(make))
    assert await two.find(made[1]) is None
    assert (await two.path(made[1])).read_bytes() == b"data"
    layers = await asyncio.gather(*(two.layer(KEY, made) for _ in range(5)))
    for layer in layers:
        check_everything(layer)
    assert not list(two._files._scratch.iterdir())


@pytest.mark.postgres
async def test_damaged_file_is_brought_again(hosts: list[SharedArtifacts], make) -> None:
    """A file that a power cut left too short is replaced from the database."""
    one, _ = hosts
    (made,) = await one.add(KEY, [make("a", b"content")])
    path = await one.path(made)
    path.chmod(0o644)
    path.write_bytes(b"con")
    assert (await one.path(made)).read_bytes() == b"content"


@pytest.mark.postgres
async def test_large_files_take_little_memory(hosts: list[SharedArtifacts], tmp_path: Path) -> None:
    """Sixty-four MiB go to the database and come from it in a few."""
    source = tmp_path / "large"
    with source.open("wb") as file:
        for i in range(64):
            file.write(random.Random(i).randbytes(MIB))
    tracemalloc.start()
    try:
        made = await hosts[0].add(KEY, [ArtifactFile("large", source, 64 * MIB)])
        path = await hosts[1].path(made[0])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert await hosts[1]._files.check(made[0]) == path
    assert peak < 24 * MIB, peak


@pytest.mark.postgres
async def test_same_content_is_put_once(shared: SharedHarness, hosts: list[SharedArtifacts], make) -> None:
    """Hosts that add the same at the same time all succeed, and the bytes are there once."""
    files = [make(f"f{i}", b"%d" % i * 100_000) for i in range(20)]
    keys = [AttemptKey(f"run{i}", "job", 1) for i in range(6)]
    await asyncio.gather(*(hosts[i % 2].add(key, random.Random(i).sample(files, 20)) for i, key in enumerate(keys)))
    assert shared.execute("SELECT count(*) FROM blob") == [(20,)]
    assert shared.execute("SELECT sum(octet_length(data)) FROM blob_chunk") == [(sum(f.size_bytes for f in files),)]


@pytest.mark.postgres
async def test_blob_is_deleted_when_nothing_uses_it(shared: SharedHarness, hosts: list[SharedArtifacts], make) -> None:
    """Blobs of a run on record stay; those of none go, once they were not put for a while."""
    kept = await hosts[0].add(AttemptKey("r" * 26, "job", 1), [make("a", b"kept")])
    shared.record("r" * 26, kept)
    (lost,) = await hosts[0].add(KEY, [make("b", b"lost")])
    async with shared.open_blobs() as blobs:
        assert await blobs.delete_unused(YESTERDAY) == 0  # its outcome may be about to go on record
        assert await blobs.delete_unused(TOMORROW) == len(b"lost")
        assert (await blobs.has(kept[0].digest), await blobs.has(lost.digest)) == (True, False)
    with pytest.raises(NotFoundError, match="gone"):
        await hosts[1].path(lost)
    assert (await hosts[1].path(kept[0])).read_bytes() == b"kept"


@pytest.mark.postgres
async def test_blob_that_is_not_what_it_says_is_refused(shared: SharedHarness, make, tmp_path: Path) -> None:
    """Neither other bytes under a digest, nor bytes that changed in the database, get through."""
    file = make("a", b"data")
    digest = hashlib.sha256(b"data").hexdigest()
    async with shared.open_blobs() as blobs:
        with pytest.raises(StoreError, match="announced"):
            await blobs.put({"ab" * 32: file.source})
        assert not await blobs.has("ab" * 32)
        await blobs.put({digest: file.source})
        shared.execute("UPDATE blob_chunk SET data = 'dato'")
        with pytest.raises(StoreError, match="damaged"):
            await blobs.get({digest: tmp_path / "got"})
        with pytest.raises(NotFoundError):
            await blobs.get({"ab" * 32: tmp_path / "none"})
        assert not (tmp_path / "none").exists()


@pytest.mark.postgres
async def test_killed_host_leaves_no_half_blob(
    shared: SharedHarness, hosts: list[SharedArtifacts], tmp_path: Path
) -> None:
    """However often a host is killed while it puts, every blob in the database is whole, and the next try completes them."""
    chance = random.Random(3)
    files = {}
    for i, size in enumerate((10, 300_000, 5 * MIB, 30 * MIB)):
        path = tmp_path / f"source{i}"
        path.write_bytes(chance.randbytes(size))
        files[hashlib.sha256(path.read_bytes()).hexdigest()] = path
    torn = (
        "SELECT count(*) FROM blob WHERE size_bytes <> (SELECT coalesce(sum(octet_length(data)), 0) FROM blob_chunk"
        " WHERE blob_chunk.digest = blob.digest)"
    )
    async with shared.open_blobs() as blobs:
        kills = 0
        while kills < 6:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.conformance.artifacts.child", shared.place, *map(str, files.values()),
                stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
            )  # fmt: skip
            assert process.stdout is not None
            async with asyncio.timeout(30):
                assert await process.stdout.readline() == b"putting\n"
                await asyncio.sleep(chance.uniform(0.0, 0.25))
                process.kill()
                kills += 1
                await process.wait()
            assert shared.execute(torn) == [(0,)]
        async with asyncio.timeout(30):
            await blobs.put(files)
        targets = {digest: tmp_path / f"got-{digest}" for digest in files}
        await blobs.get(targets)
        for digest, path in files.items():
            assert targets[digest].read_bytes() == path.read_bytes()
    assert shared.execute(torn) == [(0,)]
