"""A token as text, and what is kept of it.

`stretto_<id>_<secret>`: twelve and sixty-four hexadecimal digits, 48 and 256 bits of the system's randomness. Only the SHA-256 of
the secret is kept, which needs no salt and no slow hash: nobody guesses 256 bits.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from stretto.access.principal import Principal, Scope

_TEXT: Final = re.compile(r"stretto_([0-9a-f]{12})_([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token. `digest` is that of its secret; `expires_at` None means never."""

    id: str
    digest: str
    name: str
    scope: Scope
    repositories: tuple[str, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    used_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Say whether it opens anything at this time."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    @property
    def principal(self) -> Principal:
        """Whom it stands for."""
        return Principal(self.id, self.name, self.scope, self.repositories)


def make() -> tuple[str, str, str]:
    """Return the text of a fresh token, its id and the digest of its secret."""
    token_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    return f"stretto_{token_id}_{secret}", token_id, _digest(secret)


def parse(text: str) -> tuple[str, str] | None:
    """Return id and digest of a token's text, None if it is none."""
    found = _TEXT.fullmatch(text)
    return None if found is None else (found[1], _digest(found[2]))


def token_to_json(token: Token) -> dict[str, Any]:
    """Return what may be told of a token."""
    return {
        "id": token.id,
        "name": token.name,
        "scope": token.scope.value,
        "repositories": list(token.repositories),
        "created_at": _time(token.created_at),
        "created_by": token.created_by,
        "expires_at": _time(token.expires_at),
        "used_at": _time(token.used_at),
        "revoked_at": _time(token.revoked_at),
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
