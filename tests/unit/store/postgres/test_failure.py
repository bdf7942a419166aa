"""What PostgreSQL reports, in our own errors: every code has a meaning or is known to be a bug of ours."""

from __future__ import annotations

import psycopg
import psycopg_pool
import pytest
from psycopg import errors

from stretto.core.errors import DiskFullError, SchemaError, SettingsError, StoreError
from stretto.store.postgres import failure
from stretto.store.postgres.database import Database, mask_url

BUGS = {
    "00",
    "01",
    "02",
    "03",
    "09",
    "0B",
    "0F",
    "0L",
    "0P",
    "0Z",
    "20",
    "21",
    "22",
    "23",
    "24",
    "25",
    "26",
    "27",
    "2B",
}
BUGS |= {"2D", "2F", "34", "38", "39", "3B", "42", "44", "55", "57", "F0", "HV", "P0", "XX", "10", "72"}
"""Classes of codes that only a wrong statement of ours, or a feature we don't use, leads to."""

KNOWN = [cls for cls in vars(errors).values() if isinstance(cls, type) and isinstance(vars(cls).get("sqlstate"), str)]
CODES = sorted({cls.sqlstate for cls in KNOWN})


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_mapped(code: str) -> None:
    """Each code that psycopg knows has words for people, or belongs to a class that is a bug of ours."""
    mapped = failure.store_error("the database x", errors.lookup(code)("what it said\nLINE 1: SELECT 'secret'"))
    assert "secret" not in mapped.message
    assert mapped.message.startswith("the database x") or isinstance(mapped, DiskFullError)
    if errors.lookup(code).__name__ in mapped.message:
        assert code[:2] in BUGS


@pytest.mark.parametrize(
    ("error", "away", "conflict"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), True, False),
        (psycopg.InterfaceError("the connection is closed"), True, False),
        (psycopg_pool.PoolTimeout("no connection"), True, False),
        (TimeoutError(), True, False),
        (errors.AdminShutdown("x"), True, False),
        (errors.CannotConnectNow("x"), True, False),
        (errors.ReadOnlySqlTransaction("x"), True, False),
        (errors.SerializationFailure("x"), False, True),
        (errors.DeadlockDetected("x"), False, True),
        (errors.QueryCanceled("x"), False, False),
        (errors.CheckViolation("x"), False, False),
        (ValueError("x"), False, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_may_be_tried_again(error: Exception, away: bool, conflict: bool) -> None:
    """A server that is away and a conflict pass; a statement that is wrong or took too long does not."""
    assert (failure.is_away(error), failure.is_conflict(error)) == (away, conflict)


def test_missing_tables_and_full_disks_are_told_apart() -> None:
    """The two that a person can do something about have errors of their own, with what to do."""
    missing = failure.store_error("x", errors.UndefinedTable('relation "run" does not exist'))
    assert isinstance(missing, SchemaError)
    assert missing.hint == "run: stretto db upgrade"
    assert isinstance(failure.store_error("x", errors.DiskFull("x")), DiskFullError)
    assert not isinstance(failure.store_error("x", errors.DeadlockDetected("x")), SchemaError)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:s3cret@db.example:5433/runs", "postgresql://ann@db.example:5433/runs"),
        ("postgres:///runs?password=s3cret&host=/run/pg", "postgresql:///run/pg:5432/runs"),
        ("postgresql://db.example", "postgresql://db.example:5432/"),
    ],
)
def test_mask_url_shows_no_password(url: str, shown: str) -> None:
    """Wherever the password stands, it is not shown; host and database are."""
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    "url", ["", "s3cret", "mysql://ann:s3cret@db/x", "postgresql://a:s3cret@[/x", "postgresql://h/?s3cret=1"]
)
def test_bad_url_is_refused_without_being_quoted(url: str) -> None:
    """What can't be understood may hold a password all the same."""
    with pytest.raises(SettingsError) as caught:
        mask_url(url)
    assert "s3cret" not in f"{caught.value.message}{caught.value.hint}"


async def test_refused_connection_names_host_and_database() -> None:
    """Where nothing listens, the error says where that is, and not the password."""
    with pytest.raises(StoreError, match=r"postgresql://ann@127.0.0.1:1/runs does not answer") as caught:
        await Database("postgresql://ann:s3cret@127.0.0.1:1/runs").connect_or_fail()
    assert "s3cret" not in caught.value.message
