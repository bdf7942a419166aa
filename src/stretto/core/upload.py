"""What is said of a tree that somebody uploads: what is believed of it, and the name it gets."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Final

from stretto.core.errors import InputError
from stretto.core.ports import Pack, Upload

MAX_REPOSITORY: Final = 1000
MAX_BRANCH: Final = 250
"""Characters; git and file systems take no longer names of branches."""


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
