"""Tokens in a real store: what is kept of them, who they are, when they were used; and the audit log beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from stretto.access.audit import HELD_AT_MOST, Audit, Entry
from stretto.access.gate import Gate, open_gate
from stretto.access.principal import Principal, Scope
from stretto.access.token import make, parse
from stretto.core.errors import InputError, NotFoundError
from stretto.store.sqlite import SqliteStore
from tests.support.api import Time


@pytest.fixture
def time() -> Time:
    """A clock to be moved."""
    return Time()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A fresh store."""
    opened = await SqliteStore.open(tmp_path / "stretto.db")
    yield opened
    await opened.close()


@pytest.fixture
async def gate(store: SqliteStore, time: Time) -> AsyncIterator[Gate]:
    """The gate over it."""
    async with open_gate(store.tables, rate_per_minute=0, now=time.now, now_s=time.now_s) as opened:
        yield opened


def by(time: Time) -> Entry:
    """Return who makes the tokens here."""
    return Entry(time.now(), "root", "token.create")


def test_token_has_256_bits_and_is_read_back() -> None:
    """No two are alike, and only its digest is ever compared."""
    (text, token_id, digest), (other, _, _) = make(), make()
    assert text != other
    assert len(text.split("_")[2]) == 64
    assert parse(text) == (token_id, digest)
    assert text.split("_")[2] not in digest


@pytest.mark.parametrize("text", ["", "stretto_", "stretto_a_b", "x" * 100_000, "stretto_" + "0" * 12 + "_" + "٣" * 64])
def test_what_is_no_token_is_none(text: str) -> None:
    """Only the one form is looked at; other digits of Unicode are no digits here."""
    assert parse(text) is None


async def test_token_is_kept_as_a_hash_only(gate: Gate, store: SqliteStore, time: Time, tmp_path: Path) -> None:
    """The secret of a token is nowhere in the store's files."""
    text, token = await gate.register.create("ann", Scope.RUN, repositories=["https://h/*"], by=by(time))
    assert await gate.register.authenticate(text) == Principal(token.id, "ann", Scope.RUN, ("https://h/*",))
    secret = text.split("_")[2].encode()
    assert not [file for file in tmp_path.iterdir() if secret in file.read_bytes()]


async def test_expired_and_revoked_tokens_open_nothing(gate: Gate, time: Time) -> None:
    """A token is good until the moment it expires; a revoked one of another server for a second at most."""
    text, _ = await gate.register.create("a", Scope.READ, expires_at=time.now() + timedelta(seconds=5), by=by(time))
    time.pass_s(4.9)
    assert await gate.register.authenticate(text) is not None
    time.pass_s(0.1)
    assert await gate.register.authenticate(text) is None

    text, token = await gate.register.create("b", Scope.READ, by=by(time))
    assert await gate.register.authenticate(text) is not None
    await type(gate.register)(gate.register._tables, time.now).revoke(token.id, by=by(time))  # another process
    time.pass_s(1)
    assert await gate.register.authenticate(text) is None
    again = await gate.register.revoke(token.id, by=by(time))
    assert again.revoked_at is not None
    assert again.revoked_at < time.now()


async def test_use_is_written_once_a_minute(gate: Gate, time: Time) -> None:
    """A token that is used all the time costs a write a minute."""
    text, _ = await gate.register.create("a", Scope.READ, by=by(time))
    seen = []
    for _ in range(5):
        await gate.register.authenticate(text)
        await gate.register.note_use()
        seen.append((await gate.register.list())[0].used_at)
        time.pass_s(25)
    assert seen[0] is not None
    assert seen == [seen[0], seen[0], seen[0], seen[0] + timedelta(seconds=75), seen[3]]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
async def test_names_that_cannot_be_shown_are_refused(gate: Gate, time: Time, name: str) -> None:
    """A name is for people: it has something to show, and is short."""
    with pytest.raises(InputError):
        await gate.register.create(name, Scope.READ, by=by(time))


async def test_token_that_is_not_there_is_told(gate: Gate, time: Time) -> None:
    """Nobody revokes what is not there and believes it is done."""
    with pytest.raises(NotFoundError):
        await gate.register.revoke("0" * 12, by=by(time))


@pytest.mark.parametrize(
    ("patterns", "repository", "reaches"),
    [
        ((), "https://h/a", True),
        ((), None, True),
        (("https://h/*",), "https://h/team/a", True),
        (("https://h/*",), "https://H/team/a", False),
        (("https://h/*",), "https://h.evil/team/a", False),
        (("https://h/a", "https://h/b"), "https://h/b", True),
        (("https://h/a",), "https://h/ab", False),
        (("https://h/*",), None, False),
    ],
)
def test_principal_reaches_what_its_patterns_say(
    patterns: tuple[str, ...], repository: str | None, reaches: bool
) -> None:
    """Patterns match whole addresses, letter by letter; without any, all is reached."""
    assert Principal("0", "a", Scope.READ, patterns).reaches(repository) is reaches


async def test_audit_log_is_written_by_itself_and_at_the_end(store: SqliteStore, time: Time) -> None:
    """What was noted is in the store when the gate is closed, newest first."""
    async with open_gate(store.tables, rate_per_minute=0, now=time.now) as gate:
        for number in range(450):
            gate.audit.note(Entry(time.now(), "ann", "run.submit", f"run {number}"))
    entries = await Audit(store.tables).list(limit=1000)
    assert [entry.target for entry in entries] == [f"run {number}" for number in reversed(range(450))]
    page = await Audit(store.tables).list(before=entries[9].id, limit=1)
    assert page == [entries[10]]


async def test_audit_log_is_bounded_while_the_store_is_away(store: SqliteStore, time: Time) -> None:
    """Entries wait for a store that is away, but not without end; how many were lost is known."""
    audit = Audit(store.tables)
    for _ in range(HELD_AT_MOST + 7):
        audit.note(Entry(time.now(), "ann", "x"))
    assert audit.lost == 7
