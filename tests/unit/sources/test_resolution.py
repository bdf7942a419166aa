"""From what a person names to one commit."""

from __future__ import annotations

from pathlib import Path

import pytest

from stretto.core.errors import SourceError
from stretto.sources.git import Repositories

from .conftest import Repository, all_paths, make_repository


async def test_resolve_takes_head_of_the_repository_around_the_current_directory(
    repositories: Repositories, repository: Repository
) -> None:
    """Nothing named means HEAD of the repository that holds the current directory, subdirectories too."""
    inside = repository.path / "deep" / "down"
    inside.mkdir(parents=True)
    source = await repositories.resolve(None, cwd=inside)
    assert source.spec.repository == str(repository.path)
    assert source.spec.commit == repository.git("rev-parse", "HEAD")
    assert source.spec.commit_message == "The second\n\nWith a body."
    assert (source.spec.branch, source.spec.tag) == ("main", None)
    assert source.top == repository.path


async def test_resolve_names_a_worktree_after_its_repository(
    repositories: Repositories, repository: Repository
) -> None:
    """A linked worktree has its own HEAD and tree, and shares everything else."""
    worktree = repository.path.parent / "linked"
    repository.git("worktree", "add", "--quiet", "-b", "other", worktree, "HEAD~1")
    source = await repositories.resolve(worktree, cwd=worktree)
    assert source.spec.repository == str(repository.path)
    assert (source.spec.branch, source.spec.commit_message) == ("other", "The first")
    assert source.top == worktree


async def test_resolve_takes_a_bare_repository_and_a_file_url(
    repositories: Repositories, repository: Repository, tmp_path: Path
) -> None:
    """A bare repository has no working tree but commits; a file URL is its path."""
    bare = tmp_path / "bare repo.git"
    repository.git("clone", "--quiet", "--bare", repository.path, bare)
    by_path = await repositories.resolve(bare, cwd=tmp_path)
    by_url = await repositories.resolve(f"file://{tmp_path}/bare%20repo.git", cwd=tmp_path)
    assert by_path == by_url
    assert by_path.top is None
    assert by_path.spec.repository == str(bare)


async def test_resolve_takes_a_detached_head(repositories: Repositories, repository: Repository) -> None:
    """A detached HEAD is a commit on no branch."""
    repository.git("checkout", "--quiet", "--detach", "HEAD~1")
    source = await repositories.resolve(repository.path, cwd=repository.path)
    assert (source.spec.branch, source.spec.commit_message) == (None, "The first")


async def test_resolve_prefers_a_branch_to_a_tag_of_its_name(
    repositories: Repositories, repository: Repository
) -> None:
    """A name that is both is the branch; one that is only a tag is the tag, annotated or not."""
    repository.git("branch", "both", "HEAD~1")
    repository.git("tag", "both", "HEAD")
    repository.git("tag", "-a", "-m", "A release", "v1", "HEAD~1")
    both = await repositories.resolve(repository.path, branch="both", cwd=repository.path)
    tag = await repositories.resolve(repository.path, branch="v1", cwd=repository.path)
    first = repository.git("rev-parse", "HEAD~1")
    assert (both.spec.commit, both.spec.branch, both.spec.tag) == (first, "both", None)
    assert (tag.spec.commit, tag.spec.branch, tag.spec.tag) == (first, None, "v1")


async def test_resolve_takes_a_short_commit(repositories: Repositories, repository: Repository) -> None:
    """A short hash is made whole, upper case is a hash too, and a branch of an odd name is not asked."""
    repository.git("branch", "None", "HEAD~1")
    repository.commit("The third")
    commit = repository.git("rev-parse", "HEAD~1")
    assert repository.git("merge-base", "--is-ancestor", "None", commit) == ""
    for given in (commit, commit[:8], commit[:8].upper()):
        source = await repositories.resolve(repository.path, commit=given, cwd=repository.path)
        assert source.spec.commit == commit


async def test_resolve_does_not_take_a_branch_for_a_commit(repositories: Repositories, repository: Repository) -> None:
    """A branch whose name looks like a hash is no commit of that hash."""
    repository.git("branch", "abcdef")
    with pytest.raises(SourceError, match="no commit abcdef"):
        await repositories.resolve(repository.path, commit="abcdef", cwd=repository.path)


@pytest.mark.parametrize(
    ("branch", "commit", "message"),
    [
        ("nope", None, "no branch or tag 'nope'"),
        (None, "deadbeef", "no commit deadbeef"),
        (None, "0" * 40, "no commit 0000"),
        ("-x", None, "can't be the name"),
        ("a..b", None, "can't be the name"),
        ("a b", None, "can't be the name"),
        ("main\nHEAD", None, "can't be the name"),
        ("", None, "can't be the name"),
        (None, "main", "no commit hash"),
        (None, "--all", "no commit hash"),
        ("old", "HEADCOMMIT", "is not on 'old'"),
    ],
)
async def test_resolve_refuses_what_is_not_there(
    repositories: Repositories,
    repository: Repository,
    home: Path,
    branch: str | None,
    commit: str | None,
    message: str,
) -> None:
    """Unknown branches, tags and commits are errors of the caller, and nothing is left on disk."""
    repository.git("branch", "old", "HEAD~1")
    commit = repository.git("rev-parse", "HEAD") if commit == "HEADCOMMIT" else commit
    with pytest.raises(SourceError, match=message) as caught:
        await repositories.resolve(repository.path, branch=branch, commit=commit, cwd=repository.path)
    assert caught.value.exit_code == 2
    assert all_paths(home) == []


async def test_resolve_refuses_what_is_no_repository(repositories: Repositories, tmp_path: Path, home: Path) -> None:
    """A plain directory, a file, nothing at all and a repository without a commit are told apart."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "file").touch()
    make_repository(tmp_path / "empty")
    for name, message in (
        ("plain", "not in a git repository"), ("file", "not a directory"), ("gone", "no such directory"),
        ("empty", "no commit yet"),
    ):  # fmt: skip
        with pytest.raises(SourceError, match=message):
            await repositories.resolve(tmp_path / name, cwd=tmp_path)
    assert all_paths(home) == []


async def test_resolve_tells_an_unborn_head_from_an_empty_repository(
    repositories: Repositories, repository: Repository
) -> None:
    """Where HEAD has no commit but other branches do, those can be named, and so can their commits."""
    commit = repository.git("rev-parse", "HEAD")
    repository.git("symbolic-ref", "HEAD", "refs/heads/unborn")
    with pytest.raises(SourceError, match="HEAD is a branch without a commit"):
        await repositories.resolve(repository.path, cwd=repository.path)
    assert (await repositories.resolve(repository.path, branch="main", cwd=repository.path)).spec.commit == commit
    assert (await repositories.resolve(repository.path, commit=commit, cwd=repository.path)).spec.commit == commit


async def test_resolve_refuses_a_path_that_cannot_go_on_record(repositories: Repositories, tmp_path: Path) -> None:
    """A line break in the path of a repository is refused before git could be misread."""
    path = tmp_path / "two\nlines"
    make_repository(path).commit("One")
    with pytest.raises(SourceError, match="can't be shown"):
        await repositories.resolve(None, cwd=path)


async def test_resolve_is_not_led_astray_by_a_hook(
    repositories: Repositories, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that git sets for hooks of another repository change nothing."""
    other = make_repository(tmp_path / "other")
    other.commit("Elsewhere")
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.path / ".git/index"))
    source = await repositories.resolve(repository.path, cwd=repository.path)
    assert source.spec.commit_message.startswith("The second")


async def test_resolve_reads_a_message_in_its_own_encoding(repositories: Repositories, repository: Repository) -> None:
    """A commit that says it is Latin-1 is read as such."""
    repository.git("config", "i18n.commitEncoding", "ISO-8859-1")
    message = repository.path.parent / "message"
    message.write_bytes("Größe".encode("latin-1"))
    repository.git("commit", "--quiet", "--allow-empty", "--file", message)
    source = await repositories.resolve(repository.path, cwd=repository.path)
    assert source.spec.commit_message == "Größe"


async def test_resolve_takes_a_sha256_repository(repositories: Repositories, tmp_path: Path) -> None:
    """A hash may have 64 digits, and the checkout of such a commit is whole."""
    path = tmp_path / "long"
    path.mkdir()
    repository = Repository(path)
    repository.git("init", "--quiet", "--object-format=sha256")
    commit = repository.commit("Long", a="1")
    source = await repositories.resolve(path, cwd=path)
    assert source.spec.commit == commit
    tree = await repositories.checkout_source(source)
    assert Repository(tree).git("status", "--porcelain") == ""


async def test_remote_head_branch_tag_and_commit_resolve(
    repositories: Repositories, repository: Repository, ssh: str
) -> None:
    """A repository behind ssh gives HEAD, branches, tags and commits, short or not."""
    url = f"{ssh}{repository.path}"
    first, second = repository.git("rev-parse", "HEAD~1"), repository.git("rev-parse", "HEAD")
    repository.git("branch", "old", first)
    repository.git("tag", "-a", "-m", "A release", "v1", first)
    head = await repositories.resolve(url, cwd=repository.path)
    assert (head.spec.commit, head.spec.branch, head.spec.repository) == (second, "main", url)
    assert head.spec.commit_message == "The second\n\nWith a body."
    old = await repositories.resolve(url, branch="old", cwd=repository.path)
    assert (old.spec.commit, old.spec.branch) == (first, "old")
    tag = await repositories.resolve(url, branch="v1", cwd=repository.path)
    assert (tag.spec.commit, tag.spec.branch, tag.spec.tag) == (first, None, "v1")
    for commit in (first, first[:9]):
        assert (await repositories.resolve(url, commit=commit, cwd=repository.path)).spec.commit == first
    both = await repositories.resolve(url, branch="main", commit=first[:9], cwd=repository.path)
    assert (both.spec.commit, both.spec.branch) == (first, "main")


@pytest.mark.parametrize(
    ("branch", "commit", "message"),
    [
        ("nope", None, "no branch or tag 'nope'"),
        (None, "deadbeef", "no commit deadbeef"),
        (None, "d" * 40, "no commit dddd"),
        ("old", "HEADCOMMIT", "is not on 'old'"),
    ],
)
async def test_remote_refusal_leaves_nothing(
    repositories: Repositories,
    repository: Repository,
    ssh: str,
    home: Path,
    branch: str | None,
    commit: str | None,
    message: str,
) -> None:
    """A mirror made only to find out that there is no such commit is deleted again."""
    repository.git("branch", "old", "HEAD~1")
    commit = repository.git("rev-parse", "HEAD") if commit == "HEADCOMMIT" else commit
    with pytest.raises(SourceError, match=message):
        await repositories.resolve(f"{ssh}{repository.path}", branch=branch, commit=commit, cwd=repository.path)
    assert all_paths(home) in ([], ["mirrors"])


async def test_forget_deletes_what_only_this_source_needed(
    repositories: Repositories, repository: Repository, ssh: str, home: Path
) -> None:
    """A mirror goes if it was made for the source and nobody used it since; one that is of use to others stays."""
    url = f"{ssh}{repository.path}"
    await repositories.forget(await repositories.resolve(url, cwd=repository.path))
    assert all_paths(home) in ([], ["mirrors"])
    first = await repositories.resolve(url, cwd=repository.path)
    second = await repositories.resolve(url, cwd=repository.path)
    for source in (first, second):
        await repositories.forget(source)
        assert await repositories.read_file(second, "readme.txt") == b"two\n"


async def test_remote_that_does_not_exist_is_refused(
    repositories: Repositories, tmp_path: Path, ssh: str, home: Path
) -> None:
    """What the server says is told, with no trace left."""
    with pytest.raises(SourceError, match="can't be read"):
        await repositories.resolve(f"{ssh}{tmp_path}/gone", cwd=tmp_path)
    assert all_paths(home) == []


async def test_remote_commit_that_is_here_needs_no_network(
    repositories: Repositories, repository: Repository, ssh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full hash that the mirror has is resolved, and checked out, without asking the server."""
    url = f"{ssh}{repository.path}"
    commit = (await repositories.resolve(url, cwd=repository.path)).spec.commit
    monkeypatch.setenv("GIT_SSH_COMMAND", "false")
    again = await repositories.resolve(url, commit=commit, cwd=repository.path)
    assert (await repositories.checkout_source(again.spec) / "readme.txt").read_text() == "two\n"
