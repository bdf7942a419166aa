"""Who is calling, and what that allows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final


class Scope(StrEnum):
    """What a token is for; each has what the ones before it have."""

    READ = "read"
    """Look at runs, their logs and artifacts."""
    RUN = "run"
    """Start, cancel and retry runs."""
    ADMIN = "admin"
    """Tokens, audit log, deletion."""


_RANK: Final = {scope: rank for rank, scope in enumerate(Scope)}


@dataclass(frozen=True, slots=True)
class Principal:
    """The owner of a token. `repositories` are patterns of addresses; without any, all repositories are meant."""

    token_id: str
    name: str
    scope: Scope
    repositories: tuple[str, ...] = ()

    @property
    def is_bound(self) -> bool:
        """Whether it may see some repositories only."""
        return bool(self.repositories)

    def may(self, scope: Scope) -> bool:
        """Say whether the token has this scope."""
        return _RANK[self.scope] >= _RANK[scope]

    def reaches(self, repository: str | None) -> bool:
        """Say whether runs of this repository exist for it; what has no repository exists for nobody who is bound."""
        if not self.repositories:
            return True
        return repository is not None and any(fnmatchcase(repository, pattern) for pattern in self.repositories)
