"""The outbox of commit statuses: what is due, who sends it, and what came of it.

One sender at a time holds a commit's context, for `CLAIM_S` at most, so that statuses arrive in order; what was wanted
meanwhile is due again when it is done.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from stretto.core.ports import Clock, Tables
from stretto.triggers.forge import Report, State
from stretto.triggers.order import micros, moment

CLAIM_S: Final = 60.0
"""How long a sender may take; well above its own time-out."""
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 600.0
GIVE_UP: Final = timedelta(days=1)
"""After how long a status that can't be sent is given up: nobody waits for it any more."""
MOST_ERROR: Final = 500

_KEY: Final = "host = ? AND path = ? AND commit_id = ? AND context = ?"


@dataclass(frozen=True, slots=True)
class Posting:
    """A status that this process sends; `tries` failed before."""

    host: str
    report: Report
    seq: int
    tries: int
    wanted_at: datetime
    claim: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells it from others in the outbox."""
        return self.host, self.report.path, self.report.commit, self.report.context


class Outbox:
    """The statuses that are to be sent."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    async def take(self, limit: int) -> list[Posting]:
        """Take what is due and nobody else holds; those waiting longest first."""
        now = self._clock.now()
        rows = await self._tables.read(
            "SELECT host, path, commit_id, context FROM status_outbox "
            "WHERE settled = 0 AND due_at <= ? AND claimed_until <= ? ORDER BY due_at, wanted_at LIMIT ?",
            *(micros(now), micros(now), limit),
        )
        taken = []
        for key in rows:
            claim = secrets.token_hex(8)
            (held,) = await self._tables.write(
                (
                    f"UPDATE status_outbox SET claim = ?, claimed_until = ? WHERE {_KEY} "
                    "AND settled = 0 AND due_at <= ? AND claimed_until <= ? RETURNING run, seq, state, tries, wanted_at",
                    (claim, micros(now + timedelta(seconds=CLAIM_S)), *key, micros(now), micros(now)),
                )
            )
            for run, seq, state, tries, wanted_at in held:
                report = Report(key[1], key[2], key[3], run, State(state))
                taken.append(Posting(key[0], report, seq, tries, moment(wanted_at), claim))
        return taken

    async def settle(self, posting: Posting, error: str | None = None) -> None:
        """Note that the forge has it, or with `error` that it never will; what is newer stays due."""
        await self._finish(posting, "settled = 1, error = ?", None if error is None else error[:MOST_ERROR])

    async def postpone(self, posting: Posting, error: str, *, pause_s: float | None = None) -> None:
        """Try it again after `pause_s`, or by the number of tries; a status of a day ago is given up."""
        now = self._clock.now()
        pause_s = min(FIRST_PAUSE_S * 2.0 ** min(posting.tries, 20), LONGEST_PAUSE_S) if pause_s is None else pause_s
        if now - posting.wanted_at > GIVE_UP:
            await self.settle(posting, f"given up after {posting.tries + 1} tries: {error}")
        else:
            due_at = micros(now + timedelta(seconds=pause_s))
            await self._finish(posting, "tries = tries + 1, error = ?, due_at = ?", error[:MOST_ERROR], due_at)

    async def due_at(self) -> datetime | None:
        """Return when something is to be sent next."""
        ((value,),) = await self._tables.read(
            "SELECT min(CASE WHEN claimed_until > due_at THEN claimed_until ELSE due_at END) "
            "FROM status_outbox WHERE settled = 0"
        )
        return None if value is None else moment(value)

    async def _finish(self, posting: Posting, changes: str, *values: str | int | None) -> None:
        """Note what came of it where it still is the newest, and give it back."""
        held = (*posting.key, posting.claim)
        await self._tables.write(
            (
                f"UPDATE status_outbox SET {changes} WHERE {_KEY} AND claim = ? AND run = ? AND seq = ?",
                (*values, *held, posting.report.run, posting.seq),
            ),
            (f"UPDATE status_outbox SET claim = '', claimed_until = 0 WHERE {_KEY} AND claim = ?", held),
        )
