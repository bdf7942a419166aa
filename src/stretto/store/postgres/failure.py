"""What PostgreSQL and the way to it report when they can't serve, told in our own errors."""

from __future__ import annotations

from typing import Final

import psycopg

from stretto.core.errors import DiskFullError, SchemaError, StoreError

_AWAY_CODES: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "53300", "25006"})
"""Shutting down, crashed, starting, cut off as idle, too many connections, not (yet) the primary."""
_CONFLICT_CODES: Final = frozenset({"40001", "40P01", "55P03"})
"""Serialization failure, deadlock, lock not available: the statement did nothing and may be tried again."""

_MEANING: Final[dict[str, str]] = {
    "08": "does not answer",
    "0A": "is of a version that lacks what is needed",
    "25006": "can only be read (a standby?)",
    "28": "refuses the user",
    "3D": "is not there",
    "3F": "has not the schema of the URL",
    "40": "is busy with conflicting changes",
    "42501": "does not let the user do this: permission denied",
    "53": "is short of resources",
    "54": "can't hold a value that large",
    "55P03": "is locked by another transaction for too long",
    "57014": "took too long",
    "57P": "is shutting down or starting",
    "58": "can't be read or written: I/O error",
    "XX001": "is damaged",
    "XX002": "is damaged",
}
"""What codes (or their beginnings; the longest counts) mean that are no bug of ours: appendix A of PostgreSQL's documentation."""


def is_away(error: BaseException) -> bool:
    """Say whether the server, or the way to it, is gone for the moment: what a connection was used for may be done or not."""
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        return error.sqlstate.startswith("08") or error.sqlstate in _AWAY_CODES
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OSError)


def is_conflict(error: BaseException) -> bool:
    """Say whether another transaction was in the way, and nothing was done."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _CONFLICT_CODES


def is_of_the_place(error: BaseException) -> bool:
    """Say whether the error comes from where the store is kept, and so befalls every write alike."""
    code = error.sqlstate if isinstance(error, psycopg.Error) else None
    return (
        is_away(error)
        or is_conflict(error)
        or (code is not None and not code.startswith("54") and _meaning(code) is not None)
    )


def store_error(place: str, error: Exception) -> StoreError:
    """Return the StoreError that says what `error`, raised while `place` was used, means; no password gets into it."""
    code = error.sqlstate if isinstance(error, psycopg.Error) else None
    if code == "53100":
        return DiskFullError(f"no room left on the disk of {place}", hint="free some space there and try again")
    if code in ("42P01", "42703", "42883"):
        return SchemaError(
            f"{place} has not the tables of this Stretto ({_first_line(error)})", hint="run: stretto db upgrade"
        )
    if code is not None and (meaning := _meaning(code)):
        return StoreError(f"{place} {meaning} ({_first_line(error)})")
    if is_away(error):
        return StoreError(f"{place} does not answer ({_first_line(error)})", hint="see whether the server runs")
    return StoreError(f"{place}: {type(error).__name__}: {_first_line(error)}")


def _meaning(code: str) -> str | None:
    return next((_MEANING[code[:length]] for length in (5, 3, 2) if code[:length] in _MEANING), None)


def _first_line(error: Exception) -> str:
    """Return what the error says, without the statement that PostgreSQL quotes below."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
