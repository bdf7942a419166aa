"""Notices what has become of runs and puts it into the outbox of commit statuses.

Looks at the store, not at events as they happen, so that nothing is missed whichever process dies. Any number of processes may
do it at once: what they write is the same, and the older never replaces the newer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from stretto.core.ports import Clock, Tables
from stretto.core.states import FINAL, Status
from stretto.triggers.forge import STATES, Forge, is_path
from stretto.triggers.order import micros
from stretto.triggers.place import place_of

PAGE: Final = 500
MARGIN: Final = 1000
"""Numbers that are looked at again: a run may be on disk later than one with a higher number."""
KEEP: Final = timedelta(days=30)
"""How long a status that was sent or given up stays, for people to look at."""
_CHAIN: Final = 50
"""Retries of retries that are followed to the run that was the first."""

_TAKE_OVER: Final = """
INSERT INTO status_outbox (host, path, commit_id, context, run, seq, state, wanted_at, due_at, tries, claim, claimed_until,
                           settled)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', 0, 0)
ON CONFLICT (host, path, commit_id, context) DO UPDATE SET
    run = excluded.run, seq = excluded.seq, state = excluded.state, wanted_at = excluded.wanted_at, due_at = excluded.due_at,
    tries = 0, settled = 0, error = NULL
WHERE excluded.run > status_outbox.run
   OR excluded.run = status_outbox.run AND excluded.seq > status_outbox.seq AND excluded.state <> status_outbox.state
"""

_CHANGED: Final = f"""
SELECT run.number, run.status, run.seq, run.commit_id, run.name, submission.body, status_run.host, status_run.path
FROM status_run JOIN run ON run.number = status_run.run LEFT JOIN submission ON submission.run = run.number
WHERE status_run.finished = 0 AND run.status <> status_run.seen
  AND (run.commit_id IS NOT NULL OR run.ended_at IS NOT NULL)
ORDER BY run.number LIMIT {PAGE}
"""


class Notice:
    """Looks through the runs of a store for what forges should know."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    async def sweep(self, forges: Mapping[str, Forge]) -> None:
        """Bring the outbox up to date; `forges` are by host. Writes nothing where nothing changed."""
        if forges:
            await self._find_runs(forges)
            while await self._take_changes(forges):
                pass

    async def prune(self) -> None:
        """Forget what was settled long ago, and runs that are looked at no more."""
        old = micros(self._clock.now() - KEEP)
        await self._tables.write(
            ("DELETE FROM status_outbox WHERE settled = 1 AND wanted_at < ?", (old,)),
            (
                "DELETE FROM status_run WHERE finished = 1 AND run < (SELECT number - ? FROM status_cursor)",
                (MARGIN,),
            ),
            ("DELETE FROM status_run WHERE finished = 0 AND run NOT IN (SELECT number FROM run)", ()),
        )

    async def _find_runs(self, forges: Mapping[str, Forge]) -> None:
        """Put runs on the list that are new since the last time and that a forge should know of."""
        found = await self._tables.read("SELECT number FROM status_cursor")
        cursor = found[0][0] if found else 0
        since = min(micros(forge.created_at) for forge in forges.values() if forge.created_at is not None)
        after = max(0, cursor - MARGIN)
        while True:
            rows = await self._tables.read(
                "SELECT number, repository, submitted_by, retry_of FROM run WHERE number > ? AND created_at >= ? "
                f"AND number NOT IN (SELECT run FROM status_run) ORDER BY number LIMIT {PAGE}",
                *(after, since),
            )
            if not rows:
                return
            after = rows[-1][0]
            inserts: list[tuple[str, tuple[Any, ...]]] = [
                (
                    "INSERT INTO status_run (run, host, path, seen, finished) VALUES (?, ?, ?, '', 0) ON CONFLICT DO NOTHING",
                    it,
                )
                for row in rows
                if (it := await self._listed(forges, *row)) is not None
            ]
            if after > cursor:
                cursor = after
                inserts.append(
                    (
                        "INSERT INTO status_cursor (id, number) VALUES (1, ?) ON CONFLICT (id) DO UPDATE "
                        "SET number = excluded.number WHERE excluded.number > status_cursor.number",
                        (after,),
                    )
                )
            if inserts:
                await self._tables.write(*inserts)

    async def _listed(
        self, forges: Mapping[str, Forge], number: int, repository: str | None, by: str, retry_of: int | None
    ) -> tuple[int, str, str] | None:
        """Return number, host and path of a run that its forge should know of."""
        place = None if repository is None else place_of(repository)
        forge = None if place is None else forges.get(place.host)
        if place is None or forge is None or not is_path(forge.kind, place.path):
            return None
        if not forge.every_run and not await self._is_triggered(by, retry_of):
            return None
        return number, place.host, place.path

    async def _is_triggered(self, by: str, retry_of: int | None) -> bool:
        """Say whether a hook or schedule started the run, or the one whose jobs it does again."""
        for _ in range(_CHAIN):
            if retry_of is None:
                break
            rows = await self._tables.read("SELECT submitted_by, retry_of FROM run WHERE number = ?", retry_of)
            if not rows:
                return False
            by, retry_of = rows[0]
        return retry_of is None and by.startswith(("hook/", "schedule/"))

    async def _take_changes(self, forges: Mapping[str, Forge]) -> bool:
        """Take over a page of what changed; False if nothing did."""
        rows = await self._tables.read(_CHANGED)
        now = micros(self._clock.now())
        statements: list[tuple[str, tuple[Any, ...]]] = []
        for number, text, seq, commit, name, request, host, path in rows:
            status = Status(text)
            commit = commit or _commit_of(request)
            if host in forges and commit is not None:
                key = (host, path, commit, f"stretto/{name}")
                statements.append((_TAKE_OVER, (*key, number, seq, STATES[status].value, now, now)))
            statements.append(
                (
                    "UPDATE status_run SET seen = ?, finished = ? WHERE run = ? AND finished = 0",
                    (text, int(status in FINAL), number),
                )
            )
        if statements:
            await self._tables.write(*statements)
        return bool(rows)


def _commit_of(request: str | None) -> str | None:
    """Return the commit that was asked for, of a run that could not be compiled."""
    commit = None if request is None else json.loads(request).get("commit")
    return commit if isinstance(commit, str) and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit) else None
