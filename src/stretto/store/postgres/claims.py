"""Who holds which run: claims, leases, and giving runs back. Time is the server's, and a dead process is seen on its own host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from stretto.core.ports import Claim, Wanted
from stretto.store import rows
from stretto.store.batch import fence_lost, no_run, run_busy
from stretto.store.owner import Process, is_known_dead, this_process
from stretto.store.postgres.append import SQL, Known
from stretto.store.postgres.database import Connection, Database
from stretto.store.postgres.writer import Work

CLAIM_LEASE_S: Final = 30.0
"""The lease of an owner that claims a run without having one, so that no claim is unprotected."""
_FORGET_WORKERS_S: Final = 86_400.0
"""How long the row of a conductor that is gone stays, for people to look at."""
_SPARE: Final = 100
"""How many runs of one user are looked at beyond those wanted: others may be taking the first ones at this moment."""


class Claims:
    """Claims of the stores of one process; `known` is shared with those who write under them."""

    def __init__(self, database: Database, known: Known) -> None:
        self._database = database
        self._known = known
        self._process = this_process()

    async def take(self, run_id: str, owner: str, place: str) -> Claim:
        """Take the run with the next fence; NotFoundError, RunBusyError while another owner is alive and has a lease."""

        async def act(connection: Connection) -> list[tuple[Any, ...]]:
            async with connection.pipeline(), connection.transaction():  # two round trips instead of six
                await connection.execute(SQL["lock_run"], (run_id,))
                row = await (await connection.execute(SQL["select_holder"], (run_id,))).fetchone()
                if row is None:
                    raise no_run(run_id)
                number, live, holder, fence, seq, *process = row
                if live and holder != owner and not is_known_dead(holding := Process(*process)):
                    raise run_busy(number, holding)
                return await self._write(connection, [(number, run_id, fence, seq)], owner, place)

        (claim,) = self._note(await self._database.call(act), owner)
        return claim

    async def take_next(self, owner: str, wanted: Wanted) -> list[Claim]:
        """Take runs that are not over and that no live owner holds: by priority, then in turns between who submitted them."""
        picked: list[tuple[Any, ...]] = []

        async def act(connection: Connection) -> list[tuple[Any, ...]]:
            nonlocal picked
            if picked and (taken := await self._find_taken(connection, picked, owner)):
                return taken  # an earlier try took them, and its answer was lost
            dead = await self._find_dead(connection)
            values = {
                "dead": dead,
                "place": wanted.place,
                "abandon": int(wanted.abandon_s * 1e6),
                "undefined": wanted.undefined,
                "limit": wanted.limit,
                "most": wanted.limit + _SPARE,
            }
            async with connection.pipeline(), connection.transaction():
                picked = await (await connection.execute(SQL["select_wanted"], values, prepare=True)).fetchall()
                return await self._write(connection, picked, owner, wanted.place) if picked else []

        return self._note(await self._database.call(act), owner) if wanted.limit > 0 else []

    async def keep_lease(self, owner: str, lease_s: float, place: str) -> None:
        """Start or renew the owner's lease."""
        values = {**self._lease(owner, lease_s, place), "keep": int(_FORGET_WORKERS_S * 1e6)}
        await self._database.call(lambda connection: connection.execute(SQL["write_lease"], values))

    def forget(self, claim: Claim) -> None:
        """Take note that nothing more is written under the claim."""
        if self._known.get(claim.run_id, (claim.fence, 0))[0] == claim.fence:
            self._known.pop(claim.run_id, None)

    # -------------------------------------------------------------------------------------------------------- pieces

    async def _write(
        self, connection: Connection, locked: Sequence[tuple[Any, ...]], owner: str, place: str
    ) -> list[tuple[Any, ...]]:
        """Make runs, given by rows of number, id, fence and last event, the owner's; return the rows as they are then."""
        await connection.execute(SQL["start_lease"], self._lease(owner, CLAIM_LEASE_S, place))
        values = {"owner": owner, "place": place, "numbers": [number for number, *_ in locked]}
        await connection.execute(SQL["claim_runs"], values)
        return [(number, run_id, fence + 1, seq) for number, run_id, fence, seq in locked]

    async def _find_taken(
        self, connection: Connection, picked: Sequence[tuple[Any, ...]], owner: str
    ) -> list[tuple[Any, ...]]:
        values = {"owner": owner, "numbers": [number for number, *_ in picked]}
        held: dict[int, int] = dict(await (await connection.execute(SQL["select_claimed"], values)).fetchall())
        return [
            (number, run_id, fence + 1, seq) for number, run_id, fence, seq in picked if held.get(number) == fence + 1
        ]

    async def _find_dead(self, connection: Connection) -> list[str]:
        """Return those of this host whose process is over, though their lease still runs."""
        found = await connection.execute(SQL["select_neighbours"], (self._process.realm,))
        return [owner for owner, *process in await found.fetchall() if is_known_dead(Process(*process))]

    def _note(self, taken: Sequence[tuple[Any, ...]], owner: str) -> list[Claim]:
        for _, run_id, fence, seq in taken:
            self._known[run_id] = (fence, seq)
        return [Claim(run_id, owner, fence) for _, run_id, fence, _ in taken]

    def _lease(self, owner: str, lease_s: float, place: str) -> dict[str, Any]:
        process = self._process
        return {
            "owner": owner,
            "lease": int(lease_s * 1e6),
            "host": process.host,
            "realm": process.realm,
            "pid": process.pid,
            "start": process.start,
            "place": place,
        }


async def write_releases(connection: Connection, works: Sequence[Work[Claim]]) -> None:
    """Give back the runs of all claims; those that were lost get their error. It may be repeated when its answer was lost."""
    claims = [{"n": n, "id": work.payload.run_id, "fence": work.payload.fence} for n, work in enumerate(works)]
    values = {"claims": rows.encode(claims)}
    done = {n for (n,) in await (await connection.execute(SQL["release_runs"], values, prepare=True)).fetchall()}
    if any(work.in_doubt for n, work in enumerate(works) if n not in done):
        found = await (await connection.execute(SQL["select_released"], values)).fetchall()
        done |= {n for (n,) in found if works[n].in_doubt}
    for n, work in enumerate(works):
        work.error = None if n in done else fence_lost(work.payload)
