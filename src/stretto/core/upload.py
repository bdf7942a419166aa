"""What is said of a tree that somebody uploads: what is believed of it, and the name it gets."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import Final

from stretto.core.errors import InputError
from stretto.core.frozen import frozen

MAX_REPOSITORY: Final = 1000
MAX_BRANCH: Final = 250
"""Characters; git and file systems take no longer names of branches."""


@frozen
class Upload:
    """A source tree that somebody sent, as a git pack that holds one commit without its history.

    `id` is what a request names it by: it stands for the pack and all that is said of it here. `digest` is the SHA-256 of the
    pack. `repository` is what people call the repository it came from; nothing is ever fetched from there.
    """

    id: str
    digest: str
    commit: str
    commit_message: str
    repository: str
    branch: str | None
    size_bytes: int
    by: str
    created_at: datetime


@frozen
class Pack:
    """A pack that was received and found sound: one commit with all its files."""

    path: Path
    digest: str
    size_bytes: int
    commit_message: str


def check_facts(*, commit: str, repository: str, branch: str | None) -> None:
    """Refuse what can't be the commit, repository or branch of an upload; InputError."""
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit):
        raise InputError(f"{commit[:80]!r} is no whole commit hash", hint="give its 40 or 64 hexadecimal digits")
    if not repository or len(repository) > MAX_REPOSITORY or not repository.isprintable():
        raise InputError(
            f"{repository[:80]!r} can't be the name of a repository",
            hint=f"give up to {MAX_REPOSITORY} printable characters",
        )
    if re.match(r"[^/@]+://[^/@]*:[^/@]*@", repository):
        raise InputError(
            "the name of the repository holds a password", hint="leave it out: the name is shown to people"
        )
    if branch is not None and (not branch or len(branch) > MAX_BRANCH or not branch.isprintable()):
        raise InputError(f"{branch[:80]!r} can't be the name of a branch")


def make_upload(pack: Pack, *, commit: str, repository: str, branch: str | None, by: str, now: datetime) -> Upload:
    """Return the upload of the pack, with an id that no other pack and nothing else said of this one has.

    Two who send the same tree from different branches must not change what the other one runs.
    """
    said = "\0".join((pack.digest, commit, repository, branch or "", by))
    return Upload(
        id=hashlib.sha256(said.encode()).hexdigest(),
        digest=pack.digest,
        commit=commit,
        commit_message=pack.commit_message,
        repository=repository,
        branch=branch,
        size_bytes=pack.size_bytes,
        by=by,
        created_at=now,
    )
