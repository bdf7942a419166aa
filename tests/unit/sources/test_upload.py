"""Uploaded packs: what is whole and harmless becomes a source like any other, everything else leaves nothing."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stretto.core.errors import NotFoundError, SourceError, TooLargeError
from stretto.core.spec import SourceSpec
from stretto.core.upload import Upload
from stretto.sources import upload as subject
from stretto.sources.git import Repositories
from stretto.sources.upload import Limits, check
from tests.support.pack import commit, make_pack, object_id, pack_commit, pieces, tree

from .conftest import Repository, all_paths, files_of

MIB = 1 << 20
EMPTY_TREE = object_id("tree", b"")


async def receive(repositories: Repositories, data: bytes, commit: str, *, digest=None, limit=MIB) -> Upload:
    async with repositories.receive_pack(pieces(data), commit=commit, digest=digest, limit_bytes=limit) as pack:
        assert pack.path.read_bytes() == data
        return Upload(
            "0" * 64, pack.digest, commit, pack.commit_message, "https://git.example/r.git", "topic", pack.size_bytes,
            "ada", datetime.now(UTC),
        )  # fmt: skip


@pytest.fixture
def head(repository: Repository) -> str:
    return repository.git("rev-parse", "HEAD")


@pytest.fixture
def pack(repository: Repository, head: str) -> bytes:
    return pack_commit(repository.path, head)


async def test_upload_is_a_source_like_any_other(
    repositories: Repositories, pack: bytes, head: str, home: Path, repository: Repository
) -> None:
    """A pack of one commit can be listed, read and checked out with its message and branch, its origin gone."""
    upload = await receive(repositories, pack, head, digest=hashlib.sha256(pack).hexdigest())
    shutil.rmtree(repository.path)
    source = await repositories.resolve_upload(upload)
    assert source.spec == SourceSpec(
        "https://git.example/r.git", head, "The second\n\nWith a body.", "topic", upload=upload.digest
    )
    assert await repositories.list_files(source, "") == ["pipeline.yml", "readme.txt"]
    assert await repositories.read_file(source, "pipeline.yml") == b"name: demo\n"
    checkout = await repositories.checkout_source(source.spec)
    assert files_of(checkout) == {"pipeline.yml": "name: demo\n", "readme.txt": "two\n"}
    assert Repository(checkout).git("log", "--format=%H") == head
    assert Repository(checkout).git("status", "--porcelain") == ""
    assert (home / f"mirrors/upload-{upload.digest}.git").is_dir()
    assert all_paths(home / "uploads") == []


async def test_other_host_brings_the_pack_itself(
    repositories: Repositories, pack: bytes, head: str, tmp_path: Path
) -> None:
    """A conductor that did not receive the pack asks for it once, also when many runs begin at the same time."""
    upload = await receive(repositories, pack, head)
    asked = []

    async def bring(digest: str, target: Path) -> None:
        asked.append(digest)
        target.write_bytes(pack)

    far = Repositories(tmp_path / "far", bring)
    source = (await far.resolve_upload(upload)).spec
    made = await asyncio.gather(*(far.checkout_source(source) for _ in range(5)))
    assert len(set(made)) == 1
    assert files_of(made[0]) == {"pipeline.yml": "name: demo\n", "readme.txt": "two\n"}
    assert asked == [upload.digest]


async def test_broken_mirror_of_an_upload_is_made_anew(
    repositories: Repositories, pack: bytes, head: str, home: Path
) -> None:
    """A mirror that lost its objects is made of the pack again."""

    async def bring(digest: str, target: Path) -> None:
        target.write_bytes(pack)

    upload = await receive(repositories, pack, head)
    shutil.rmtree(home / f"mirrors/upload-{upload.digest}.git/objects/pack")
    source = await Repositories(home, bring).resolve_upload(upload)
    assert await repositories.read_file(source, "readme.txt") == b"two\n"


async def test_upload_that_is_not_kept_is_told(repositories: Repositories, tmp_path: Path) -> None:
    """Where nobody has the pack any more, the error says so and nothing is left."""

    async def bring(digest: str, target: Path) -> None:
        raise NotFoundError("there is no blob")

    upload = Upload("0" * 64, "ab" * 32, "c" * 40, "", "r", None, 1, "", datetime.now(UTC))
    with pytest.raises(SourceError, match="not kept any more"):
        await Repositories(tmp_path / "far", bring).resolve_upload(upload)
    assert not list((tmp_path / "far/mirrors").glob("*.git"))


async def test_working_tree_with_links_and_programs_comes_through(
    repositories: Repositories, repository: Repository
) -> None:
    """Programs, symbolic links and directories are checked out as they were."""
    repository.write({"bin/tool": "#!/bin/sh\n"})
    (repository.path / "bin/tool").chmod(0o755)
    (repository.path / "link").symlink_to("bin/tool")
    head = repository.commit("More")
    upload = await receive(repositories, pack_commit(repository.path, head), head)
    checkout = await repositories.checkout_source((await repositories.resolve_upload(upload)).spec)
    assert (checkout / "bin/tool").stat().st_mode & 0o111
    assert (checkout / "link").readlink() == Path("bin/tool")


async def test_same_pack_at_the_same_time_is_taken_once(
    repositories: Repositories, pack: bytes, head: str, home: Path
) -> None:
    """Several who send the same tree at once all succeed."""
    uploads = await asyncio.gather(*(receive(repositories, pack, head) for _ in range(4)))
    assert len({upload.digest for upload in uploads}) == 1
    assert len(list((home / "mirrors").glob("[!.]*.git"))) == 1
    assert all_paths(home / "uploads") == []


def evil_packs() -> dict[str, tuple[bytes, str, str]]:
    """Packs by what is wrong with them: the bytes, the commit, and what the refusal says."""
    blob = ("blob", b"data")
    blob_id = object_id(*blob)

    def of(*entries: tuple[str, str, str], more: tuple = (blob,)) -> tuple[bytes, str]:
        top = ("tree", tree(entries))
        head = ("commit", commit(object_id(*top)))
        return make_pack([*more, top, head]), object_id(*head)

    packs = {
        "no pack": (b"<html>" * 100, "c" * 40, "no git pack"),
        "empty": (b"", "c" * 40, "no git pack"),
        "dot dot": (*of(("100644", "..", blob_id)), "'..'"),
        "dot git": (*of(("100644", ".git", blob_id)), "'.git'"),
        "dot git in capitals": (*of(("100644", ".GIT", blob_id)), "'.git'"),
        "slash in a name": (*of(("100644", "a/../../b", blob_id)), "full pathnames"),
        "ntfs short name": (*of(("100644", "git~1", blob_id)), "'.git'"),
        "hfs ignorable": (*of(("100644", ".g\u200cit", blob_id)), "'.git'"),
        "missing blob": (*of(("100644", "a", "ab" * 20)), "abab"),
        "missing tree": (*of(("40000", "a", "ab" * 20)), "abab"),
        "tree for a blob": (*of(("100644", "a", EMPTY_TREE), more=(("tree", b""),)), ""),
        "twice the same name": (*of(("100644", "a", blob_id), ("100644", "a", blob_id)), "duplicate"),
    }
    config = ("blob", b'[submodule "a"]\n\tpath = a\n\turl = -u./payload\n')
    packs["option as url"] = (*of(("100644", ".gitmodules", object_id(*config)), more=(config,)), "url")
    good, head = of(("100644", "a", blob_id))
    packs["truncated"] = (good[:-30], head, "")
    packs["trailing junk"] = (good + b"junk", head, "")
    flipped = bytearray(good)
    flipped[20] ^= 1
    packs["corrupted"] = (bytes(flipped), head, "")
    packs["other commit"] = (good, "d" * 40, "d" * 40)
    packs["blob for a commit"] = (good, blob_id, "")
    packs["too many said"] = (make_pack([blob], count=4_000_000_000), head, "4000000000 objects")
    parent = ("commit", commit(EMPTY_TREE))
    child = ("commit", commit(EMPTY_TREE, parent=object_id(*parent)))
    packs["two commits"] = (make_pack([("tree", b""), parent, child]), object_id(*child), "2 commits")
    return packs


@pytest.mark.parametrize("name", evil_packs())
async def test_bad_pack_is_refused(repositories: Repositories, home: Path, name: str) -> None:
    """Whatever is wrong with a pack, it is refused with what is wrong, and nothing of it is kept."""
    data, head, said = evil_packs()[name]
    with pytest.raises((SourceError, TooLargeError)) as raised:
        await receive(repositories, data, head)
    assert said in raised.value.message
    assert all_paths(home / "uploads") == []
    assert not list((home / "mirrors").glob("*.git"))


async def test_commit_with_parents_needs_no_history(repositories: Repositories) -> None:
    """A commit whose parents are not in the pack is whole all the same."""
    head = ("commit", commit(EMPTY_TREE, parent="ab" * 20))
    data = make_pack([("tree", b""), head])
    upload = await receive(repositories, data, object_id(*head))
    checkout = await repositories.checkout_source((await repositories.resolve_upload(upload)).spec)
    assert files_of(checkout) == {}


async def test_wrong_digest_is_refused(repositories: Repositories, pack: bytes, head: str, home: Path) -> None:
    """A pack that is not the one that was announced is refused."""
    with pytest.raises(SourceError, match="another SHA-256"):
        await receive(repositories, pack, head, digest="0" * 64)
    assert all_paths(home / "uploads") == []


async def test_too_long_upload_is_cut_off(repositories: Repositories, home: Path) -> None:
    """No more is read than is taken, however much is sent."""
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 100_000
            yield bytes(100_000)

    with pytest.raises(TooLargeError, match="1 MiB"):
        async with repositories.receive_pack(endless(), commit="c" * 40, digest=None, limit_bytes=MIB):
            pass
    assert sent < MIB + 200_000
    assert all_paths(home / "uploads") == []


async def test_sender_that_goes_away_leaves_nothing(repositories: Repositories, home: Path) -> None:
    """A connection that breaks in the middle leaves no draft."""

    async def breaks():
        yield b"PACK"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        async with repositories.receive_pack(breaks(), commit="c" * 40, digest=None, limit_bytes=MIB):
            pass
    assert all_paths(home / "uploads") == []


def bomb(depth: int, leaf: list[tuple[str, bytes]], entry: tuple[str, str]) -> tuple[bytes, str]:
    """Return a pack of a tree that holds the same tree ten times, `depth` levels deep, above one entry (mode, id)."""
    objects, (mode, below) = list(leaf), entry
    for _ in range(depth):
        top = ("tree", tree([(mode, f"d{i}", below) for i in range(10)]))
        objects.append(top)
        mode, below = "40000", object_id(*top)
    head = ("commit", commit(below))
    return make_pack([*objects, head]), object_id(*head)


@pytest.mark.parametrize("kind", ["files", "empty directories", "bytes"])
async def test_bomb_is_refused_before_it_is_unpacked(
    repositories: Repositories, home: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small pack whose checkout would be enormous is refused within seconds, by files, directories or bytes."""
    leaf = ("tree", b"") if kind == "empty directories" else ("blob", bytes(MIB if kind == "bytes" else 1))
    limits = Limits(entries=50_000, checkout_bytes=1 << 30)
    data, head = bomb(
        4 if kind == "bytes" else 10, [leaf], ("40000" if leaf[0] == "tree" else "100644", object_id(*leaf))
    )
    monkeypatch.setattr(subject, "Limits", lambda: limits)
    assert len(data) < 20_000
    begun = time.monotonic()
    with pytest.raises(TooLargeError, match="more than 1024 MiB" if kind == "bytes" else "files and directories"):
        await receive(repositories, data, head)
    assert time.monotonic() - begun < 20
    assert not list((home / "mirrors").glob("*.git"))


async def test_delta_that_asks_for_gigabytes_is_stopped(tmp_path: Path) -> None:
    """A delta of some bytes that makes a huge object runs into the bound on memory, not into that of the host."""
    import struct
    import zlib

    base = bytes(0x10000)
    result_bytes = 8 << 30
    copy = bytes([0x80])  # copy 64 KiB from offset 0 (gitformat-pack(5))

    def varint(number: int) -> bytes:
        out = b""
        while number > 127:
            out, number = out + bytes([number & 127 | 128]), number >> 7
        return out + bytes([number])

    delta = varint(len(base)) + varint(result_bytes) + copy * (result_bytes // 0x10000)
    body = struct.pack(">4sII", b"PACK", 2, 2)
    for kind, data, name in ((3, base, b""), (7, delta, bytes.fromhex(object_id("blob", base)))):
        body += bytes([kind << 4 | len(data) & 15 | 128]) + varint(len(data) >> 4) + name + zlib.compress(data)
    pack = tmp_path / "pack"
    pack.write_bytes(body + hashlib.sha1(body).digest())
    with pytest.raises(SourceError, match="memory"):
        await check(pack, "c" * 40, tmp_path / "scratch")


async def test_path_too_long_is_refused(tmp_path: Path) -> None:
    """A tree so deep that no file system takes its paths is refused."""
    blob = ("blob", b"x")
    objects, mode, below = [blob], "100644", object_id(*blob)
    for _ in range(40):
        top = ("tree", tree([(mode, "d" * 200, below)]))
        objects.append(top)
        mode, below = "40000", object_id(*top)
    head = ("commit", commit(below))
    pack = tmp_path / "pack"
    pack.write_bytes(make_pack([*objects, head]))
    with pytest.raises(TooLargeError, match="a path of"):
        await check(pack, object_id(*head), tmp_path / "scratch")


async def test_drafts_of_a_killed_receiver_are_collected(repositories: Repositories, home: Path) -> None:
    """What a killed receiver left goes with the next collection; what may still be in use stays."""
    draft = home / "uploads/.draft-left"
    draft.mkdir(parents=True)
    (draft / "pack").write_bytes(b"PACK")
    now = datetime.now(UTC)
    await repositories.gc(keep_newer_than=now - timedelta(hours=1), max_bytes=1, in_use=[])
    assert draft.exists()
    await repositories.gc(keep_newer_than=now + timedelta(hours=1), max_bytes=1, in_use=[])
    assert not draft.exists()
