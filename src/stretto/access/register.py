"""The tokens of a server, in the small tables of its store."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from stretto.access.audit import Entry, insertion
from stretto.access.principal import Principal, Scope
from stretto.access.token import Token, make, parse
from stretto.core.errors import InputError, NotFoundError
from stretto.core.ports import Tables

REMEMBER_S: Final = 1.0
"""How long a token that was looked up is believed without looking again: a revoked one is refused within this time."""
REMEMBER_AT_MOST: Final = 1_000
NOTE_USE_S: Final = 60.0
"""How often at most the use of a token is written down."""
MAX_NAME: Final = 100
MAX_PATTERNS: Final = 100
MAX_PATTERN: Final = 500

_COLUMNS: Final = "id, digest, name, scope, repositories, created_at, created_by, expires_at, used_at, revoked_at"
"""As the fields of `Token`."""
_NOBODY: Final = "0" * 64
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Register:
    """Makes, lists, checks and revokes tokens. `now` gives the time in UTC."""

    def __init__(self, tables: Tables, now: Callable[[], datetime]) -> None:
        self._tables = tables
        self._now = now
        self._known: dict[str, tuple[datetime, Token | None]] = {}
        self._used: dict[str, datetime] = {}

    async def create(
        self,
        name: str,
        scope: Scope,
        *,
        repositories: Sequence[str] = (),
        expires_at: datetime | None = None,
        by: Entry,
    ) -> tuple[str, Token]:
        """Store a new token and return its text, which nobody can be told again; InputError."""
        _check(name, repositories)
        now = self._now()
        if expires_at is not None and expires_at <= now:
            raise InputError("a token can't expire before it is made")
        text, token_id, digest = make()
        token = Token(token_id, digest, name, scope, tuple(repositories), now, by.who, expires_at)
        values = (
            token.id,
            token.digest,
            token.name,
            token.scope.value,
            json.dumps(token.repositories),
            _micros(now),
            token.created_by,
            None if expires_at is None else _micros(expires_at),
        )
        await self._tables.write(
            (
                "INSERT INTO token (id, digest, name, scope, repositories, created_at, created_by, expires_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            ),
            insertion(by.about(f"token {token.id}")),
        )
        return text, token

    async def list(self) -> list[Token]:
        """Return all tokens, newest first; revoked and expired ones too."""
        rows = await self._tables.read(f"SELECT {_COLUMNS} FROM token ORDER BY created_at DESC, id")
        return [_read(row) for row in rows]

    async def revoke(self, token_id: str, *, by: Entry) -> Token:
        """Make the token worthless; one that is revoked stays as it is. NotFoundError."""
        done = await self._tables.write(
            (
                f"UPDATE token SET revoked_at = COALESCE(revoked_at, ?) WHERE id = ? RETURNING {_COLUMNS}",
                (_micros(self._now()), token_id),
            ),
            insertion(by.about(f"token {token_id}")),
        )
        self._known.pop(token_id, None)
        if not done[0]:
            raise NotFoundError(f"there is no token {token_id!r}", hint="`stretto token list` lists them")
        return _read(done[0][0])

    async def drop(self, created_by: str) -> None:
        """Delete the tokens that this maker made, with no trace but their making in the audit log."""
        await self._tables.write(("DELETE FROM token WHERE created_by = ?", (created_by,)))
        self._known.clear()

    async def authenticate(self, text: str) -> Principal | None:
        """Return whose token this is, None if it is nobody's, expired or revoked."""
        token_id, digest = parse(text) or ("", "")
        token = await self._look_up(token_id) if token_id else None
        matches = hmac.compare_digest(digest, _NOBODY if token is None else token.digest)
        now = self._now()
        if token is None or not matches or not token.is_valid(now):
            return None
        self._used[token.id] = now
        return token.principal

    async def note_use(self) -> None:
        """Write down when tokens were used, each at most once a minute."""
        used, self._used = self._used, {}
        statements = [
            ("UPDATE token SET used_at = ? WHERE id = ? AND COALESCE(used_at, 0) < ?", (at, token_id, at - _PAUSE_US))
            for token_id, at in ((token_id, _micros(moment)) for token_id, moment in used.items())
        ]
        if statements:
            await self._tables.write(*statements)

    async def _look_up(self, token_id: str) -> Token | None:
        now = self._now()
        known = self._known.get(token_id)
        if known is not None and now - known[0] < timedelta(seconds=REMEMBER_S):
            return known[1]
        rows = await self._tables.read(f"SELECT {_COLUMNS} FROM token WHERE id = ?", token_id)
        token = _read(rows[0]) if rows else None
        if len(self._known) >= REMEMBER_AT_MOST:
            self._known.clear()
        self._known[token_id] = (now, token)
        return token


_PAUSE_US: Final = int(NOTE_USE_S * 1e6)


def _check(name: str, repositories: Sequence[str]) -> None:
    """Refuse what can't be shown in a list or is too long for it; InputError."""
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise InputError(f"a token's name has 1 to {MAX_NAME} printable characters")
    if len(repositories) > MAX_PATTERNS:
        raise InputError(f"a token is bound to at most {MAX_PATTERNS} patterns")
    for pattern in repositories:
        if not pattern or len(pattern) > MAX_PATTERN or not pattern.isprintable():
            raise InputError(f"{pattern[:50]!r} is no pattern of repositories", hint="write https://example.org/team/*")


def _read(row: Sequence[Any]) -> Token:
    token_id, digest, name, scope, repositories, created_at, created_by, *times = row
    expires_at, used_at, revoked_at = (None if it is None else _moment(it) for it in times)
    return Token(
        token_id,
        digest,
        name,
        Scope(scope),
        tuple(json.loads(repositories)),
        _moment(created_at),
        created_by,
        expires_at,
        used_at,
        revoked_at,
    )


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
