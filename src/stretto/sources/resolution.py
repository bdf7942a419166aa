"""Finds the one commit that a branch, a tag, a commit or nothing means, and leaves nothing behind where there is none."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from stretto.core.errors import SourceError
from stretto.core.frozen import frozen
from stretto.core.spec import SourceSpec
from stretto.sources.address import Address
from stretto.sources.command import LOCAL_TIMEOUT_S, failure, git, run
from stretto.sources.mirror import Mirrors
from stretto.sources.usage import used_at

LIST_TIMEOUT_S: Final = 60.0
"""For asking a server which branches it has."""

BRANCHES: Final = "refs/heads/"
TAGS: Final = "refs/tags/"


@frozen
class ResolvedSource:
    """A commit that is there. `git_directory` is where its objects can be read, `top` the working tree it came from.

    `fetched_at` is set where nothing of the repository was kept before: when that was last used, as POSIX time.
    """

    spec: SourceSpec
    address: Address
    git_directory: Path
    top: Path | None = None
    fetched_at: float | None = None


@frozen
class _Commit:
    hash: str
    message: str


def check_names(branch: str | None, commit: str | None) -> None:
    """Refuse a branch or commit that can't be one; SourceError."""
    if branch is not None and (
        not branch
        or branch.startswith(("-", "/"))
        or ".." in branch
        or "@{" in branch
        or branch.endswith(("/", ".lock", "."))
        or re.search(r"[\x00-\x20\x7f~^:?*\[\\]", branch)
    ):
        raise SourceError(f"{branch!r} can't be the name of a branch or tag")
    if commit is not None and not re.fullmatch(r"[0-9a-fA-F]{4,64}", commit):
        raise SourceError(
            f"{commit!r} is no commit hash", hint="give 4 to 64 hexadecimal digits; a branch or tag goes to -b"
        )


async def resolve_local(address: Address, branch: str | None, commit: str | None) -> ResolvedSource:
    """Resolve in the repository that holds `address.path`: two git processes, at the same time."""
    path = address.path
    assert path is not None
    if not path.is_dir():
        raise SourceError(f"{path}: no such directory" if not path.exists() else f"{path} is not a directory")
    layout, (head, as_branch, as_tag, as_commit) = await asyncio.gather(
        run("rev-parse", "--path-format=absolute", "--git-common-dir", "--is-inside-work-tree", "--show-cdup",
            "--symbolic-full-name", "HEAD", cwd=path),
        _read_commits(("HEAD", f"{BRANCHES}{branch}", f"{TAGS}{branch}", commit or "HEAD"), cwd=path),
    )  # fmt: skip
    lines = layout.out.decode("utf-8", "surrogateescape").splitlines()
    if len(lines) < 2:
        if "not a git repository" in layout.error:
            raise SourceError(f"{path} is not in a git repository", hint="run it inside one, or give its path or URL")
        raise failure(f"{path} can't be read", layout)
    git_directory = Path(lines[0])
    if head is None and not await _has_refs(git_directory):
        raise SourceError(f"{git_directory} has no commit yet", hint="commit something first")
    home = _home_of(git_directory.resolve())
    whole = replace(address, repository=str(home), path=home)
    top = (path / lines[2]).resolve() if lines[1] == "true" else None
    spec = SourceSpec(str(home), "")
    if branch is None and commit is None:
        if head is None:
            raise SourceError(f"{git_directory}: HEAD is a branch without a commit", hint="name another one with -b")
        on = lines[-1].removeprefix(BRANCHES) if lines[-1].startswith(BRANCHES) else None
        return ResolvedSource(_fill(spec, head, branch=on), whole, git_directory, top)
    tip = None if branch is None else as_branch or as_tag
    if branch is not None and tip is None:
        raise SourceError(f"{home} has no branch or tag {branch!r}", hint="list them with: git branch -a; git tag")
    found = tip
    if commit is not None:
        found = _named(as_commit, commit, home)
        if tip is not None:
            await _require_on_branch(git_directory, found, tip, branch or "", home)
    assert found is not None
    spec = _fill(spec, found, branch=branch if as_branch else None, tag=None if as_branch else branch)
    return ResolvedSource(spec, whole, git_directory, top)


async def resolve_remote(address: Address, branch: str | None, commit: str | None, mirrors: Mirrors) -> ResolvedSource:
    """Resolve at a server, and have the commit in the mirror afterwards. A full hash that is there already costs no network."""
    spec = SourceSpec(address.repository, "")
    whole = commit.lower() if commit is not None and len(commit) in (40, 64) else None
    if whole is not None and branch is None and await mirrors.has(address, whole):
        mirror = mirrors.path(address)
        return ResolvedSource(_fill(spec, await _read_commit(mirror, whole, address), branch=None), address, mirror)
    tip, is_branch, name = commit or "", False, None
    if branch is not None or commit is None:
        tip, is_branch, name = _tip(await _list_remote(address, branch), branch, address)
    existed = mirrors.path(address).exists()
    try:
        if commit is not None and whole is None:
            mirror = await mirrors.refresh(address)  # a server can't be asked for a short hash
        else:
            mirror = await mirrors.ensure(address, whole or tip)
        found = await _read_commit(mirror, commit or tip, address)
        if commit is not None and branch is not None:
            at_tip = await _read_commit(await mirrors.ensure(address, tip), tip, address)
            await _require_on_branch(mirror, found, at_tip, branch, address.repository)
    except BaseException:
        if not existed:
            await mirrors.discard(address)
        raise
    spec = _fill(spec, found, branch=name if is_branch else None, tag=None if is_branch else name)
    return ResolvedSource(spec, address, mirror, fetched_at=None if existed else used_at(mirror))


async def _list_remote(address: Address, branch: str | None) -> dict[str, str]:
    """Return the server's refs that matter, each with its hash, and under "" the name of its HEAD's branch."""
    patterns = ("HEAD",) if branch is None else (f"{BRANCHES}{branch}", f"{TAGS}{branch}", f"{TAGS}{branch}^{{}}")
    out = await git(
        *("ls-remote", "--symref", "--", address.repository, *patterns),
        environment=address.environment(),
        timeout_s=LIST_TIMEOUT_S,
        about=f"{address.repository} can't be read",
    )
    refs: dict[str, str] = {}
    for line in out.decode("utf-8", "replace").splitlines():
        value, _, name = line.partition("\t")
        if value.startswith("ref: "):
            refs[""] = value.removeprefix("ref: ")
        elif re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", value):
            refs[name] = value
    return refs


def _tip(refs: dict[str, str], branch: str | None, address: Address) -> tuple[str, bool, str | None]:
    """Return the commit to start from, whether a branch holds it, and the name of that branch or tag."""
    if branch is None:
        if "HEAD" not in refs:
            raise SourceError(f"{address.repository} has no commit on its main branch", hint="name a branch with -b")
        return refs["HEAD"], True, refs.get("", "").removeprefix(BRANCHES) or None
    if tip := refs.get(f"{BRANCHES}{branch}"):
        return tip, True, branch
    if tip := refs.get(f"{TAGS}{branch}^{{}}") or refs.get(f"{TAGS}{branch}"):
        return tip, False, branch
    raise SourceError(
        f"{address.repository} has no branch or tag {branch!r}",
        hint=f"list them with: git ls-remote {address.repository}",
    )


async def read_message(git_directory: Path, commit: str, address: Address) -> str:
    """Return the message of a commit (full hash) that is there."""
    return (await _read_commit(git_directory, commit, address)).message


async def _read_commit(git_directory: Path, name: str, address: Address) -> _Commit:
    [found] = await _read_commits((name,), git_directory=git_directory)
    return _named(found, name, address.repository)


async def _read_commits(
    names: Sequence[str], *, cwd: Path | None = None, git_directory: Path | None = None
) -> list[_Commit | None]:
    """Return the commit that each name means, None where there is none; one process for all of them."""
    where: tuple[str | Path, ...] = () if git_directory is None else ("--git-dir", git_directory)
    asked = "".join(f"{name}^{{commit}}\n" for name in names).encode()
    done = await run(*where, "cat-file", "--batch", cwd=cwd, stdin=asked, timeout_s=LOCAL_TIMEOUT_S)
    found: list[_Commit | None] = []
    rest = done.out
    for _ in names:
        header, _, rest = rest.partition(b"\n")
        if match := re.fullmatch(rb"([0-9a-f]{40,64}) commit (\d+)", header):
            size = int(match[2])
            found.append(_Commit(match[1].decode(), _message(rest[:size])))
            rest = rest[size + 1 :]
        else:
            found.append(None)
    return found


def _message(commit: bytes) -> str:
    """Return the message of a raw commit object, in the encoding that the commit names."""
    headers, _, message = commit.partition(b"\n\n")
    encoding = re.search(rb"(?m)^encoding (\S+)$", headers)
    try:
        return message.decode(encoding[1].decode("ascii") if encoding else "utf-8", "replace").strip()
    except (LookupError, UnicodeDecodeError):
        return message.decode("utf-8", "replace").strip()


def _named(found: _Commit | None, commit: str, repository: Path | str) -> _Commit:
    """Return `found`, provided that it is the commit of this (short) hash and not a branch that is called so."""
    if found is None or not found.hash.startswith(commit.lower()):
        raise _no_commit(commit, repository)
    return found


def _no_commit(commit: str, repository: Path | str) -> SourceError:
    return SourceError(
        f"{repository} has no commit {commit} (or more than one that begins so)", hint="give the whole hash"
    )


async def _require_on_branch(
    git_directory: Path, found: _Commit, tip: _Commit, branch: str, repository: Path | str
) -> None:
    if found.hash == tip.hash:
        return
    done = await run("--git-dir", git_directory, "merge-base", "--is-ancestor", found.hash, tip.hash)
    if done.code == 1:
        raise SourceError(f"{repository}: commit {found.hash[:12]} is not on {branch!r}", hint="leave out -b or -c")
    if done.code != 0:
        raise failure(f"{repository}: the history of {branch!r} can't be read", done)


async def _has_refs(git_directory: Path) -> bool:
    return bool((await run("--git-dir", git_directory, "for-each-ref", "--count=1")).out)


def _home_of(git_directory: Path) -> Path:
    """Return what people call the repository: the directory that holds `.git`, or the bare repository itself."""
    return git_directory.parent if git_directory.name == ".git" else git_directory


def _fill(spec: SourceSpec, commit: _Commit, *, branch: str | None, tag: str | None = None) -> SourceSpec:
    return replace(spec, commit=commit.hash, commit_message=commit.message, branch=branch, tag=tag)
