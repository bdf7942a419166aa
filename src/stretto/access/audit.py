"""The audit log: who did what, when, to what, from where, and whether it was allowed.

Entries are written in batches, so that what is asked of a server does not wait for its log: a killed process loses what it did
not write yet (a fifth of a second at most). What is written together with the change it is about (`insertion`) is never lost.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from stretto.core.ports import Tables

log = logging.getLogger(__name__)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_TEXT: Final = 500
BATCH: Final = 200
"""Entries written by one statement."""
HELD_AT_MOST: Final = 10_000
"""Entries kept in memory while the store is away; further ones are counted and dropped."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log. `who` is the name of the token `token`; empty and None where nobody was known."""

    at: datetime
    who: str
    action: str
    target: str = ""
    address: str = ""
    outcome: str = "done"
    token: str | None = None
    id: int = 0

    def about(self, target: str) -> Entry:
        """Return the entry with another target."""
        return replace(self, target=target)


def insertion(*entries: Entry) -> tuple[str, Sequence[Any]]:
    """Return the statement that writes the entries: one, as each statement is a way to the database and back."""
    values: list[Any] = []
    for entry in entries:
        values += (
            (entry.at - _EPOCH) // timedelta(microseconds=1),
            entry.who,
            entry.token,
            entry.action,
            entry.target[:_MAX_TEXT],
            entry.address,
            entry.outcome,
        )
    rows = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(entries))
    return f"INSERT INTO audit (at, who, token, action, target, address, outcome) VALUES {rows}", values


class Audit:
    """The log of a server. `lost` counts entries that could not be kept."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._held: list[Entry] = []
        self.lost = 0

    def note(self, entry: Entry) -> None:
        """Take the entry, to be written with the next `flush`."""
        if len(self._held) >= HELD_AT_MOST:
            if not self.lost:
                log.error("the audit log is full, and the store that it goes to away: entries are lost")
            self.lost += 1
            return
        self._held.append(entry)

    async def flush(self) -> None:
        """Write what was noted; what fails to be written is kept for the next time."""
        while self._held:
            batch = self._held[:BATCH]
            await self._tables.write(insertion(*batch))
            del self._held[: len(batch)]

    async def list(self, *, before: int | None = None, limit: int = 100) -> list[Entry]:
        """Return entries, newest first, those with an id below `before`."""
        rows = await self._tables.read(
            "SELECT id, at, who, token, action, target, address, outcome FROM audit "
            "WHERE id < ? ORDER BY id DESC LIMIT ?",
            2**62 if before is None else before,
            limit,
        )
        return [_read(*row) for row in rows]


def _read(
    entry_id: int, at: int, who: str, token: str | None, action: str, target: str, address: str, outcome: str
) -> Entry:
    moment = _EPOCH + timedelta(microseconds=at)
    return Entry(moment, who, action, target, address, outcome, token, entry_id)
