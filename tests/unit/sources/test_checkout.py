"""Mirrors, checkouts, files without a checkout, snapshots and their collection."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stretto.core.errors import SourceError
from stretto.sources.garbage import gc
from stretto.sources.git import Repositories
from stretto.sources.lock import LockTimeoutError, locked
from stretto.sources.mirror import MAX_LOOSE_OBJECTS
from stretto.sources.snapshot import dirty, working_tree_commit

from .conftest import Repository, all_paths, files_of, make_repository


async def _checkout(repositories: Repositories, repository: Repository, commit: str | None = None) -> Path:
    source = await repositories.resolve(repository.path, commit=commit, cwd=repository.path)
    return await repositories.checkout_source(source)


def _hidden(home: Path) -> list[str]:
    """Return what a maker that was killed has left."""
    return [path for path in all_paths(home) if "/." in path and "/.git" not in path and not path.endswith("/.lock")]


async def test_checkout_holds_the_commit_and_a_git_directory_that_works(
    repositories: Repositories, repository: Repository, tmp_path: Path
) -> None:
    """Scripts may describe, log and compare with a branch, even where neither mirror nor original can be seen."""
    repository.git("tag", "-a", "-m", "A release", "v1", "HEAD~1")
    repository.git("branch", "feature/x")
    tree = await _checkout(repositories, repository)
    moved = tmp_path / "container"
    shutil.move(tree, moved)
    shutil.rmtree(tmp_path / "home")
    shutil.rmtree(repository.path)
    inside = Repository(moved)
    assert files_of(moved) == {"pipeline.yml": "name: demo\n", "readme.txt": "two\n"}
    assert inside.git("describe") == f"v1-1-g{inside.git('rev-parse', '--short', 'HEAD')}"
    assert inside.git("log", "--format=%s", "origin/feature/x") == "The second\nThe first"
    assert inside.git("status", "--porcelain") == ""
    assert inside.git("fsck") == ""


async def test_checkout_is_made_once(repositories: Repositories, repository: Repository) -> None:
    """The second time nothing is written; several at once make one."""
    source = await repositories.resolve(repository.path, cwd=repository.path)
    trees = await asyncio.gather(*(repositories.checkout_source(source) for _ in range(5)))
    assert len(set(trees)) == 1
    before = trees[0].stat()
    assert await repositories.checkout_source(source) == trees[0]
    assert trees[0].stat().st_ino == before.st_ino
    assert _hidden(repositories.mirrors.directory.parent) == []


async def test_checkout_outlives_the_original(repositories: Repositories, repository: Repository) -> None:
    """When the original is gone, the checkout is whole and the mirror still gives its other commits."""
    first = repository.git("rev-parse", "HEAD~1")
    source = await repositories.resolve(repository.path, cwd=repository.path)
    tree = await repositories.checkout_source(source)
    shutil.rmtree(repository.path)
    assert Repository(tree).git("fsck") == ""
    other = await repositories.checkouts.ensure(source.address, first)
    assert files_of(other) == {"readme.txt": "one\n"}


async def test_checkout_of_a_borrowing_repository_borrows_nothing(
    repositories: Repositories, repository: Repository, tmp_path: Path
) -> None:
    """A clone that shares the objects of another is mirrored with objects of its own."""
    shared = tmp_path / "shared"
    repository.git("clone", "--quiet", "--shared", repository.path, shared)
    tree = await _checkout(repositories, Repository(shared))
    shutil.rmtree(repository.path)
    assert Repository(tree).git("fsck") == ""


async def test_checkout_follows_new_commits(repositories: Repositories, repository: Repository) -> None:
    """A commit made after the mirror is fetched into it; so is one that no branch holds any more."""
    await _checkout(repositories, repository)
    third = repository.commit("The third", readme__txt="three\n")
    tree = await _checkout(repositories, repository)
    assert files_of(tree)["readme.txt"] == "three\n"
    repository.git("reset", "--quiet", "--hard", "HEAD~2")
    repository.commit("Another history", readme__txt="four\n")
    assert files_of(await _checkout(repositories, repository))["readme.txt"] == "four\n"
    dangling = repository.git("commit-tree", "-m", "On no branch", f"{third}^{{tree}}")
    assert files_of(await _checkout(repositories, repository, dangling))["readme.txt"] == "three\n"


async def test_mirror_with_many_loose_objects_is_packed(repositories: Repositories, repository: Repository) -> None:
    """Hard links per checkout stay few: a later fetch packs what was linked one by one."""
    repository.commit("Many", **{f"file{i}": f"{i}\n" for i in range(MAX_LOOSE_OBJECTS + 10)})
    source = await repositories.resolve(repository.path, cwd=repository.path)
    await repositories.checkout_source(source)
    repository.commit("One more", readme__txt="more\n")
    tree = await _checkout(repositories, repository)
    assert len([path for path in (tree / ".git/objects").rglob("*") if path.is_file()]) < 20
    assert Repository(tree).git("status", "--porcelain") == ""


async def test_submodules_of_a_local_repository_are_there(
    repositories: Repositories, repository: Repository, tmp_path: Path
) -> None:
    """Submodules come along, also those of submodules."""
    inner, outer = make_repository(tmp_path / "inner"), make_repository(tmp_path / "outer")
    inner.commit("Inner", inner__txt="inner\n")
    outer.commit("Outer", outer__txt="outer\n")
    outer.git("submodule", "--quiet", "add", "../inner", "in")
    outer.commit("With inner")
    repository.git("submodule", "--quiet", "add", "../outer", "lib/out")
    repository.commit("With outer")
    tree = await _checkout(repositories, repository)
    assert (tree / "lib/out/in/inner.txt").read_text() == "inner\n"
    assert Repository(tree / "lib/out").git("status", "--porcelain") == ""


async def test_submodule_of_a_remote_repository_may_not_be_a_local_path(
    repositories: Repositories, repository: Repository, tmp_path: Path, ssh: str
) -> None:
    """A foreign repository can't have this host's files checked out, and no half a checkout is left."""
    private = make_repository(tmp_path / "private")
    private.commit("Private", secret="secret\n")
    repository.git("submodule", "--quiet", "add", str(private.path), "stolen")
    repository.commit("Steal")
    source = await repositories.resolve(f"{ssh}{repository.path}", cwd=tmp_path)
    with pytest.raises(SourceError, match="submodules"):
        await repositories.checkout_source(source)
    assert not repositories.checkouts.path(source.address, source.spec.commit).exists()
    assert _hidden(repositories.mirrors.directory.parent) == []


async def test_two_processes_fetch_one_mirror(repository: Repository, home: Path, tmp_path: Path) -> None:
    """Processes that want the same new commits at once get them, and one whole mirror."""
    commits = [repository.commit(f"Number {i}", readme__txt=f"{i}\n") for i in range(4)]
    program = (
        "import asyncio, sys; from pathlib import Path; from stretto.sources.git import Repositories\n"
        "async def main():\n"
        "    r = Repositories(Path(sys.argv[1]))\n"
        "    s = await r.resolve(sys.argv[2], commit=sys.argv[3], cwd=Path('/'))\n"
        "    print(await r.checkout_source(s))\n"
        "asyncio.run(main())\n"
    )
    arguments = [[sys.executable, "-c", program, str(home), str(repository.path), commit] for commit in commits]
    running = [await asyncio.create_subprocess_exec(*each, stdout=subprocess.PIPE) for each in arguments]
    results = await asyncio.gather(*(process.communicate() for process in running))
    for i, (out, _) in enumerate(results):
        assert (Path(out.decode().strip()) / "readme.txt").read_text() == f"{i}\n"
    assert len(list((home / "mirrors").glob("*.git"))) == 1
    assert _hidden(home) == []


async def test_kill_while_a_mirror_is_made_leaves_no_trap(
    repository: Repository, home: Path, tmp_path: Path, ssh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process killed in the middle of a clone leaves no lock and no mirror; the next one cleans up and succeeds."""
    started = tmp_path / "started"
    os.mkfifo(started)
    slow = tmp_path / "slow-ssh"
    # The first call (ls-remote) answers; the second (clone) reports itself and hangs.
    slow.write_text(
        f"#!/bin/sh\nif [ -e {tmp_path}/asked ]; then echo $$ > {started}; exec sleep 60; fi\ntouch {tmp_path}/asked\n"
        f'exec {tmp_path}/ssh "$@"\n'
    )
    slow.chmod(0o755)
    program = (
        "import asyncio, sys; from pathlib import Path; from stretto.sources.git import Repositories\n"
        "asyncio.run(Repositories(Path(sys.argv[1])).resolve(sys.argv[2], cwd=Path('/')))\n"
    )
    url = f"{ssh}{repository.path}"
    environment = {**os.environ, "GIT_SSH_COMMAND": str(slow)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(home), url, env=environment)
    transport = int(await asyncio.to_thread(started.read_text))
    process.kill()
    await process.wait()
    assert _hidden(home) != []
    assert list((home / "mirrors").glob("[!.]*.git")) == []
    repositories = Repositories(home)
    source = await repositories.resolve(url, cwd=tmp_path)
    assert files_of(await repositories.checkout_source(source))["readme.txt"] == "two\n"
    assert _hidden(home) == []
    os.kill(transport, signal.SIGKILL)  # the orphaned git ends with it


async def test_broken_mirror_is_made_anew(repositories: Repositories, repository: Repository) -> None:
    """A mirror that lost objects, or has stale locks of git, heals at the next use."""
    source = await repositories.resolve(repository.path, cwd=repository.path)
    await repositories.checkout_source(source)
    mirror = repositories.mirrors.path(source.address)
    (mirror / "packed-refs.lock").touch()
    for group in (mirror / "objects").glob("??"):
        shutil.rmtree(group)
    third = repository.commit("The third", readme__txt="three\n")
    tree = await _checkout(repositories, repository, third)
    assert files_of(tree)["readme.txt"] == "three\n"
    assert await repositories.mirrors.is_sound(source.address)


async def test_lock_times_out_with_a_clear_error(tmp_path: Path) -> None:
    """Who waits for too long is told for which lock."""
    async with locked(tmp_path / "lock", timeout_s=1):
        with pytest.raises(LockTimeoutError, match="another process has held this lock"):
            async with locked(tmp_path / "lock", timeout_s=0.05):
                pass


async def test_read_file_reads_the_commit_not_the_tree(repositories: Repositories, repository: Repository) -> None:
    """What is read is what was committed; directories list their files only."""
    repository.commit("Nested", **{"ci/one__yml": "1", "ci/two__yml": "2", "ci/deep/three__yml": "3"})
    repository.write({"pipeline.yml": "changed"})
    source = await repositories.resolve(repository.path, cwd=repository.path)
    assert await repositories.read_file(source, "pipeline.yml") == b"name: demo\n"
    assert await repositories.read_file(source, "./ci/one.yml") == b"1"
    assert await repositories.list_files(source, "ci") == ["ci/one.yml", "ci/two.yml"]
    assert await repositories.read_file(source, "ci/two.yml") == b"2"
    assert await repositories.read_file(source, "ci/deep/three.yml") == b"3"
    assert await repositories.list_files(source, ".") == ["pipeline.yml", "readme.txt"]
    assert await repositories.list_files(source, "nope") == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../secret", "not a path within"), ("/etc/passwd", "not a path within"), ("", "not a path within"),
        ("a/../../b", "not a path within"), (".", "not a path within"), ("link", "symbolic link"), ("deep", "a directory"),
        ("gone", "no such file"), ("big", "has 2000 bytes"), ("linked/passwd", "no such file"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("listed", [None, ".", "deep"])
async def test_read_file_refuses(
    repositories: Repositories, repository: Repository, path: str, message: str, listed: str | None
) -> None:
    """Paths that leave, links, directories, what isn't there and what is too large are refused, each by its name."""
    (repository.path / "link").symlink_to("/etc/passwd")
    (repository.path / "linked").symlink_to("/etc")
    repository.commit("Traps", big="x" * 2000, **{"deep/file": "1"})
    source = await repositories.resolve(repository.path, cwd=repository.path)
    if listed is not None:
        await repositories.list_files(source, listed)
    with pytest.raises(SourceError, match=message):
        await repositories.read_file(source, path, limit_bytes=1000)


async def test_working_tree_is_recorded_as_it_is(repositories: Repositories, repository: Repository) -> None:
    """Changed, deleted, staged and untracked files are in; ignored ones are not; nothing of the repository changes."""
    repository.commit("Ignore", __gitignore="*.log\n", old="old\n")
    assert not await dirty(repository.path)
    assert await working_tree_commit(repository.path) == repository.git("rev-parse", "HEAD")
    repository.write({"readme.txt": "changed\n", "new/file": "new\n", "x.log": "log\n", "staged": "staged\n"})
    repository.git("add", "staged")
    (repository.path / "old").unlink()
    before = (repository.git("status", "--porcelain"), repository.git("for-each-ref"), repository.git("stash", "list"))
    index = (repository.path / ".git/index").read_bytes()
    assert await dirty(repository.path)
    (repository.path / "sub").mkdir()
    source = await repositories.resolve(None, working_tree=True, cwd=repository.path / "sub")
    tree = await repositories.checkout_source(source)
    assert files_of(tree) == {
        ".gitignore": "*.log\n", "new/file": "new\n", "pipeline.yml": "name: demo\n", "readme.txt": "changed\n",
        "staged": "staged\n",
    }  # fmt: skip
    assert (source.spec.branch, "Working tree on" in source.spec.commit_message) == ("main", True)
    assert before == (
        repository.git("status", "--porcelain"), repository.git("for-each-ref"), repository.git("stash", "list")
    )  # fmt: skip
    assert (repository.path / ".git/index").read_bytes() == index
    assert await working_tree_commit(repository.path) == source.spec.commit


async def test_gc_takes_the_oldest_and_leaves_what_is_in_use(
    repositories: Repositories, repository: Repository, home: Path
) -> None:
    """What was used last or is in use stays; the rest goes, oldest first, and what was freed is told."""
    trees = []
    for i in range(4):
        repository.commit(f"Number {i}", readme__txt=f"{i}\n" * 10_000)
        trees.append(await _checkout(repositories, repository))
    now = time.time()
    for age, tree in zip((4000, 3000, 2000, 10), trees, strict=True):
        os.utime(tree.with_name(f"{tree.name}.used"), (now - age, now - age))
    recently = datetime.now(UTC) - timedelta(seconds=1000)
    assert await gc(home, keep_newer_than=recently, max_bytes=10**12, in_use=set()) == 0
    freed = await gc(home, keep_newer_than=recently, max_bytes=0, in_use={trees[1]})
    assert freed > 40_000
    assert [tree.exists() for tree in trees] == [False, True, False, True]
    assert _hidden(home) == []
    assert files_of(await _checkout(repositories, repository))["readme.txt"] == "3\n" * 10_000


async def test_gc_takes_everything_that_is_old(repositories: Repositories, repository: Repository, home: Path) -> None:
    """Mirrors go too, and all can be made again."""
    await _checkout(repositories, repository)
    freed = await gc(home, keep_newer_than=datetime.now(UTC) + timedelta(seconds=1), max_bytes=0, in_use=set())
    assert freed > 0
    assert list(home.glob("mirrors/*.git")) == []
    assert files_of(await _checkout(repositories, repository))["readme.txt"] == "two\n"
