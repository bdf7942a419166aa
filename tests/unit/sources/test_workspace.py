"""Private views of a tree, and what is collected from them. Everything is tried with overlays and with copies."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stretto.core.errors import DiskFullError, DriverError, InputError
from stretto.core.ports import Tree
from stretto.sources.git import Repositories
from stretto.sources.mount import MAX_OPTIONS_BYTES, is_mounted, mount_overlay, unmount
from stretto.sources.removal import ForeignFilesError, remove_tree
from stretto.sources.workspace import View, close_view, collect, open_view, remove_view

from .conftest import Repository, files_of

IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="an overlay mount needs root")
NO_LIMIT = 10**9
NOBODY = 65534

OVERLAY_AND_COPY = [
    pytest.param(True, marks=[pytest.mark.root, needs_root], id="overlay"),
    pytest.param(False, id="copy"),
]


def _tree(path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A checkout."""
    return _tree(tmp_path / "base", {"a.txt": "a\n", "dir/b.txt": "b\n", "dir/c.txt": "c\n", "gone/d.txt": "d\n"})


@pytest.fixture(params=OVERLAY_AND_COPY)
def overlay(request: pytest.FixtureRequest) -> bool:
    """Whether the view is an overlay or a copy."""
    return bool(request.param)


@pytest.fixture
async def view(base: Path, tmp_path: Path, overlay: bool) -> AsyncIterator[View]:
    """An open view of the checkout."""
    yield await open_view(Tree((base,)), tmp_path / "attempt", overlay=overlay)
    await remove_view(tmp_path / "attempt")


async def _paths(view: View, *patterns: str, limit_bytes: int = NO_LIMIT) -> list[str]:
    return [artifact.path for artifact in await collect(view.directory, list(patterns), limit_bytes)]


async def test_views_of_one_checkout_do_not_see_each_other(base: Path, tmp_path: Path, overlay: bool) -> None:
    """What one attempt writes, deletes or changes in place reaches neither another nor the checkout."""
    before = files_of(base)
    one = await open_view(Tree((base,)), tmp_path / "one", overlay=overlay)
    two = await open_view(Tree((base,)), tmp_path / "two", overlay=overlay)
    assert one.kind == two.kind == ("overlay" if overlay else "copy")
    with (one.path / "a.txt").open("a") as file:
        file.write("more\n")
    (one.path / "a.txt").chmod(0o600)
    (one.path / "dir/b.txt").unlink()
    (one.path / "new").write_text("new\n")
    assert files_of(two.path) == files_of(base) == before
    assert (base / "a.txt").stat().st_mode & 0o777 == (two.path / "a.txt").stat().st_mode & 0o777
    assert files_of(one.path)["a.txt"] == "a\nmore\n"
    await remove_view(tmp_path / "one")
    assert not (tmp_path / "one").exists()
    assert files_of(two.path) == files_of(base) == before
    await remove_view(tmp_path / "two")


async def test_view_lays_earlier_layers_over_later_ones(base: Path, tmp_path: Path, overlay: bool) -> None:
    """A file hides a file or directory of a later layer, directories are merged, the first layer wins."""
    first = _tree(tmp_path / "first", {"a.txt": "first\n", "dir/new": "first\n"})
    second = _tree(tmp_path / "second", {"a.txt": "second\n", "gone": "a file now\n", "dir/b.txt": "second\n"})
    view = await open_view(Tree((first, second, base)), tmp_path / "attempt", overlay=overlay)
    assert files_of(view.path) == {
        "a.txt": "first\n", "dir/b.txt": "second\n", "dir/c.txt": "c\n", "dir/new": "first\n", "gone": "a file now\n",
    }  # fmt: skip
    await remove_view(view.directory)
    assert (first / "a.txt").read_text() == "first\n"


async def test_view_is_opened_again_as_it_was(view: View, base: Path) -> None:
    """Opening is idempotent; what was written is there after the view was closed and opened again."""
    (view.path / "new").write_text("new\n")
    assert await open_view(Tree((base,)), view.directory) == view
    await close_view(view.directory)
    await close_view(view.directory)
    again = await open_view(Tree((base,)), view.directory)
    assert again == view
    assert (again.path / "new").read_text() == "new\n"
    assert await _paths(view, "**") == ["new"]


async def test_view_of_nothing_is_an_empty_directory(tmp_path: Path) -> None:
    """A job without a tree has a place to write, and what it writes can be collected."""
    view = await open_view(None, tmp_path / "attempt")
    (view.path / "new").write_text("new\n")
    assert await _paths(view, "new") == ["new"]
    await remove_view(view.directory)
    await remove_view(view.directory)
    assert not view.directory.exists()


async def test_view_of_a_missing_layer_is_an_error(base: Path, tmp_path: Path) -> None:
    """A layer that is gone is named, not left out."""
    with pytest.raises(DriverError, match="a layer of the tree is gone") as caught:
        await open_view(Tree((tmp_path / "nowhere", base)), tmp_path / "attempt")
    assert caught.value.reason == "tree_failed"


async def test_unfinished_copy_is_made_anew(base: Path, tmp_path: Path) -> None:
    """What a killed process had copied so far is not taken for the whole tree."""
    _tree(tmp_path / "attempt/tree.partial", {"half": "half\n"})
    _tree(tmp_path / "attempt/tree", {"half": "half\n"})
    view = await open_view(Tree((base,)), tmp_path / "attempt", overlay=False)
    assert files_of(view.path) == files_of(base)


async def test_copy_for_this_host_borrows_the_history(
    tmp_path: Path, repository: Repository, repositories: Repositories
) -> None:
    """A copy's git works without a copy of its objects; one for a container has them all."""
    tree = await repositories.checkout_source(await repositories.resolve(repository.path, cwd=tmp_path))
    here = await open_view(Tree((tree,)), tmp_path / "here", overlay=False)
    there = await open_view(Tree((tree,)), tmp_path / "there", overlay=False, mount=False)
    for view in (here, there):
        job = Repository(view.path)
        assert job.git("log", "--format=%s") == "The second\nThe first"
        assert job.git("status", "--porcelain") == ""
        job.commit("In a job", readme__txt="changed\n")
    objects = [[path for path in (view.path / ".git/objects").rglob("*") if path.is_file()] for view in (here, there)]
    assert len(objects[0]) < len(objects[1])
    assert files_of(tree)["readme.txt"] == "two\n"


@pytest.mark.root
@needs_root
async def test_unmounted_overlay_gives_options_that_mount(base: Path, tmp_path: Path) -> None:
    """For a Docker volume only the directories are made; the options serve as they are."""
    view = await open_view(Tree((base,)), tmp_path / "attempt", mount=False)
    assert not is_mounted(view.path)
    assert view.overlay_options is not None
    mount_overlay(view.overlay_options, view.path)
    (view.path / "new").write_text("new\n")
    assert files_of(view.path)["a.txt"] == "a\n"
    unmount(view.path)
    assert await _paths(view, "**") == ["new"]
    await remove_view(view.directory)


@pytest.mark.root
@needs_root
async def test_overlay_takes_odd_paths(tmp_path: Path) -> None:
    """Colons, commas, backslashes, spaces and quotes in a path are no options."""
    odd = tmp_path / "a:b,c\\d e'f\"g\\:h"
    base = _tree(odd / "base", {"a.txt": "a\n"})
    view = await open_view(Tree((_tree(odd / "over,lay", {"b": "b\n"}), base)), odd / "attempt")
    assert view.kind == "overlay"
    assert files_of(view.path) == {"a.txt": "a\n", "b": "b\n"}
    await remove_view(view.directory)
    assert not view.directory.exists()


@pytest.mark.root
@needs_root
async def test_overlay_of_too_many_layers_is_flattened(base: Path, tmp_path: Path) -> None:
    """More layers than a page of mount options takes are joined beneath, in their order, without being written to."""
    layers = [_tree(tmp_path / f"{'x' * 60}{i}", {"who": f"{i}\n", f"only{i}": ""}) for i in range(100)]
    view = await open_view(Tree((*layers, base)), tmp_path / "attempt")
    assert view.kind == "overlay"
    assert len(view.overlay_options or "") <= MAX_OPTIONS_BYTES
    files = files_of(view.path)
    assert files["who"] == "0\n"
    assert len(files) == 1 + 100 + 4
    (view.path / "who").write_text("me\n")
    assert (layers[0] / "who").read_text() == "0\n"
    await remove_view(view.directory)


@pytest.mark.root
@needs_root
async def test_view_left_by_a_killed_process_is_removed(base: Path, tmp_path: Path) -> None:
    """A mount that outlived its process, with a file in it still open, goes without a trace."""
    program = (
        "import asyncio, os, signal, sys; from pathlib import Path\n"
        "from stretto.core.ports import Tree; from stretto.sources.workspace import open_view\n"
        "asyncio.run(open_view(Tree((Path(sys.argv[1]),)), Path(sys.argv[2])))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    directory = tmp_path / "attempt"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(base), str(directory))
    assert await process.wait() == -9
    assert is_mounted(directory / "tree")
    with (directory / "tree/a.txt").open():
        await remove_view(directory)
    assert not directory.exists()
    assert files_of(base)["a.txt"] == "a\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory with one megabyte of room."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.root
@needs_root
async def test_copy_on_a_full_disk_is_told_as_such(base: Path, small_disk: Path) -> None:
    """No room for the tree has its own reason, and what was copied can be removed."""
    (base / "big").write_bytes(b"x" * 2_000_000)
    with pytest.raises(DriverError) as caught:
        await open_view(Tree((base,)), small_disk / "attempt", overlay=False)
    assert caught.value.reason == "disk_full"
    await remove_view(small_disk / "attempt")
    assert not (small_disk / "attempt").exists()


@pytest.mark.root
@needs_root
async def test_view_on_a_file_system_in_memory_is_private(base: Path, small_disk: Path) -> None:
    """Where the attempt's directory is in memory, deleting and making a directory again hides what was in it."""
    view = await open_view(Tree((base,)), small_disk / "attempt")
    remove_tree(view.path / "dir")
    _tree(view.path, {"dir/new": "new\n"})
    assert files_of(view.path) == {"a.txt": "a\n", "dir/new": "new\n", "gone/d.txt": "d\n"}
    assert await _paths(view, "**") == ["dir/new"]
    await remove_view(view.directory)
    assert not view.directory.exists()


@pytest.mark.root
@needs_root
async def test_checkout_on_a_full_disk_is_told_as_such(repository: Repository, small_disk: Path) -> None:
    """A repository that does not fit leaves no half a mirror and no half a checkout."""
    (repository.path / "big").write_bytes(os.urandom(2_000_000))
    repository.commit("Large")
    repositories = Repositories(small_disk / "home")
    source = await repositories.resolve(repository.path, cwd=small_disk)
    with pytest.raises(DiskFullError):
        await repositories.checkout_source(source)
    assert [path for path in small_disk.rglob("*") if path.is_file() and path.stat().st_size] == []


@pytest.mark.root
@needs_root
async def test_checkout_on_another_file_system_is_whole(repository: Repository, small_disk: Path) -> None:
    """Where objects can't be hard-linked from the original they are copied."""
    repositories = Repositories(small_disk / "home")
    tree = await repositories.checkout_source(await repositories.resolve(repository.path, cwd=small_disk))
    assert Repository(tree).git("fsck") == ""
    assert files_of(tree)["readme.txt"] == "two\n"


async def test_collect_takes_what_was_changed_and_matches(view: View) -> None:
    """Unchanged, deleted and unmatched files are not artifacts; what is told of each is true."""
    tree = _tree(
        view.path, {"a.txt": "changed\n", "dist/x/y.bin": "y", "dist/z": "zz", "other": "-", ".git/config": "-"}
    )
    (tree / "dist/z").chmod(0o755)
    (tree / "dir/b.txt").unlink()
    (tree / "dist/link").symlink_to("../a.txt")
    found = {file.path: file for file in await collect(view.directory, ["*.txt", "dist/", "dir", ".git"], NO_LIMIT)}
    assert list(found) == ["a.txt", "dist/link", "dist/x/y.bin", "dist/z"]
    assert found["a.txt"].source.read_text() == "changed\n"
    assert (found["dist/z"].size_bytes, found["dist/z"].executable) == (2, True)
    assert (found["dist/x/y.bin"].executable, found["dist/x/y.bin"].link) == (False, None)
    assert found["dist/link"].link == "../a.txt"


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("**", ["d/e/f.log", "d/g.log", "top.log", "x[1].txt"]),
        (".", ["d/e/f.log", "d/g.log", "top.log", "x[1].txt"]),
        ("*.log", ["top.log"]),
        ("**/*.log", ["d/e/f.log", "d/g.log", "top.log"]),
        ("d/**", ["d/e/f.log", "d/g.log"]),
        ("d/**/f.log", ["d/e/f.log"]),
        ("./d/e", ["d/e/f.log"]),
        ("**/**/**/**/f.log", ["d/e/f.log"]),
        ("**/e/**", ["d/e/f.log"]),
        ("?/g.*", ["d/g.log"]),
        ("[!a-c]/[e-g]*", ["d/e/f.log", "d/g.log"]),
        ("x[[]1].txt", ["x[1].txt"]),
        ("x[1.txt", []),
        ("D/**", []),
    ],
)
async def test_collect_understands_globs(tmp_path: Path, pattern: str, paths: list[str]) -> None:
    """Stars stay within a name, two of them do not; a directory means all in it."""
    view = await open_view(None, tmp_path / "attempt")
    _tree(view.path, {"top.log": "", "d/g.log": "", "d/e/f.log": "", "x[1].txt": ""})
    assert await _paths(view, pattern) == paths


@pytest.mark.parametrize("pattern", ["", "/etc/passwd", "../x", "a/../../b", "a\0b", "[z-a]"])
async def test_collect_refuses_patterns_that_leave_the_tree(tmp_path: Path, pattern: str) -> None:
    """Such a pattern is the caller's mistake, even where nothing would match."""
    view = await open_view(None, tmp_path / "attempt")
    with pytest.raises(InputError):
        await collect(view.directory, [pattern], NO_LIMIT)


async def test_collect_leaves_out_links_out_of_the_tree(view: View, caplog: pytest.LogCaptureFixture) -> None:
    """A link is followed on paper only: out of the tree directly, by an absolute path, or by way of other links."""
    tree = view.path
    (tree / "deep/er").mkdir(parents=True)
    for name, target in {
        "good": "dir/b.txt", "deep/er/good": "../../a.txt", "dangling": "dir/nothing", "up": "../outside", "abs": "/etc/passwd",
        "deep/er/root": "../..", "by-link": "deep/er/root/../escape", "loop": "loop", "deep/ok": "er/root/a.txt",
    }.items():  # fmt: skip
        (tree / name).symlink_to(target)
    with caplog.at_level(logging.WARNING):
        paths = await _paths(view, "**")
    assert paths == ["dangling", "deep/er/good", "deep/er/root", "deep/ok", "good"]
    refused = sorted(record.__dict__["path"] for record in caplog.records)
    assert refused == ["abs", "by-link", "loop", "up"]


async def test_collect_leaves_out_what_is_no_file(view: View) -> None:
    """FIFOs and sockets are not opened, nor do they fail the rest."""
    os.mkfifo(view.path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(view.path)  # a socket's path may have 107 characters only
        server.bind("socket")
        os.chdir(here)
        (view.path / "file").write_text("1")
        assert await _paths(view, "**") == ["file"]


async def test_collect_stops_at_the_limit(view: View) -> None:
    """Artifacts may have exactly the limit, and one byte more fails them."""
    _tree(view.path, {"one": "12345", "two": "12345"})
    assert await _paths(view, "one", "two", limit_bytes=10) == ["one", "two"]
    with pytest.raises(DriverError, match="more than 9 bytes") as caught:
        await _paths(view, "one", "two", limit_bytes=9)
    assert caught.value.reason == "artifacts_failed"


async def test_collect_from_a_copy_is_not_led_out_by_a_layer(tmp_path: Path) -> None:
    """Where a layer has a link and the job made a directory of it, the file behind the link is not looked at."""
    outside = _tree(tmp_path / "outside", {"file": "same"})
    base = tmp_path / "base"
    base.mkdir()
    (base / "d").symlink_to(outside)
    view = await open_view(Tree((base,)), tmp_path / "attempt", overlay=False)
    (view.path / "d").unlink()
    _tree(view.path, {"d/file": "same"})
    assert await _paths(view, "**") == ["d/file"]
    assert files_of(outside) == {"file": "same"}


async def test_remove_takes_locked_directories_and_spares_what_links_name(view: View, tmp_path: Path) -> None:
    """Directories of mode 000 go; what a link points to stays."""
    outside = _tree(tmp_path / "outside", {"file": "keep"})
    _tree(view.path, {"locked/in/file": "1"})
    (view.path / "link").symlink_to(outside)
    (view.path / "locked/in").chmod(0)
    (view.path / "locked").chmod(0)
    await remove_view(view.directory)
    assert not view.directory.exists()
    assert files_of(outside) == {"file": "keep"}


@pytest.fixture
def shared_path() -> Iterator[Path]:
    """A directory that another user may enter, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="stretto-test-") as name:
        path = Path(name)
        path.chmod(0o777)
        yield path


@contextmanager
def _as_another_user() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.root
@needs_root
def test_remove_tells_what_belongs_to_another_user(shared_path: Path) -> None:
    """Own locked directories are deleted; what belongs to root is told as such, with what to do."""
    foreign = _tree(shared_path / "foreign", {"in/file": "1"})
    with _as_another_user():
        own = _tree(shared_path / "own", {"in/file": "1"})
        (own / "in").chmod(0)
        remove_tree(own)
        with pytest.raises(ForeignFilesError) as caught:
            remove_tree(foreign)
    assert not own.exists()
    assert isinstance(caught.value, PermissionError)
    assert str(foreign) in (caught.value.hint or "")


@pytest.mark.root
@needs_root
async def test_view_is_a_copy_for_a_user_who_may_not_mount(shared_path: Path) -> None:
    """Who is not root gets a copy without asking, or the options of an overlay for an engine that may mount it."""
    base = _tree(shared_path / "base", {"a.txt": "a\n"})
    with _as_another_user():
        view = await open_view(Tree((base,)), shared_path / "attempt")
        (view.path / "a.txt").write_text("changed\n")
        found = await _paths(view, "**")
        await remove_view(view.directory)
        volume = await open_view(Tree((base,)), shared_path / "volume", mount=False)
        options = volume.overlay_options
        await remove_view(volume.directory)
    assert (view.kind, found) == ("copy", ["a.txt"])
    assert options is not None
    assert files_of(base) == {"a.txt": "a\n"}
