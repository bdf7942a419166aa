"""The store of several conductors and API servers: one schema of a PostgreSQL database.

Commits go through `Writer` (group commit), everything else through a pool. A call during which the server goes away is made
again, so each either may be repeated or finds out whether it was done.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import psycopg

from stretto.core.errors import StoreError
from stretto.core.events import Event, RunSubmitted
from stretto.core.ports import Claim, NewRun, Request, RunFilter, RunRow, StoredRun
from stretto.core.run import Changes
from stretto.store import rows
from stretto.store.batch import ambiguous, fence_lost, make_batch, no_run, run_busy
from stretto.store.owner import Process, is_known_dead, this_process
from stretto.store.postgres import schema
from stretto.store.postgres.append import SQL, Known
from stretto.store.postgres.database import Connection, Database, Patience
from stretto.store.postgres.watch import Watch
from stretto.store.postgres.writer import Writer

CLAIM_LEASE_S: Final = 30.0
"""The lease of an owner that claims a run without having one, so that no claim is unprotected."""
_FORGET_WORKERS_S: Final = 86_400.0
"""How long the row of a conductor that is gone stays, for people to look at."""
_WRITERS: Final = 2
"""Connections that commits are spread over: one syncs while the other's group is put together."""


class PostgresStore:
    """A `Store` in a PostgreSQL database; get it with `open`. Any number of processes may have the same one open."""

    def __init__(self, database: Database, writers: int) -> None:
        self._database = database
        self._process = this_process()
        self._known: Known = {}
        self._watch = Watch(database)
        self._writers = [Writer(database, self._known, self._watch.tell) for _ in range(writers)]

    @classmethod
    async def open(cls, url: str, *, writers: int = _WRITERS, patience: Patience | None = None) -> PostgresStore:
        """Open the store at `url`; SchemaError where its tables are not this version's, StoreError where it can't be had."""
        database = Database(url, patience=patience)
        store = cls(database, writers)
        connection = await database.connect_or_fail()
        try:
            await schema.check(connection, database.place)
            await database.open()
            await store._watch.open(connection)
        except BaseException as error:
            await connection.close()
            await database.close()
            if isinstance(error, psycopg.Error):
                raise database.error(error) from error
            raise
        for i, writer in enumerate(store._writers):
            writer.start(f"stretto-store-writer-{i}")
        return store

    async def close(self) -> None:
        """Write what was accepted, then let go of the connections. May be called again."""
        for writer in self._writers:
            await writer.close()
        await self._watch.close()
        await self._database.close()

    # ------------------------------------------------------------------------------------------------------- writing

    async def create_run(self, new: NewRun) -> tuple[RunRow, bool]:
        """Store run, jobs and RunSubmitted in one transaction; False where the idempotency key was already there."""
        names = (
            "id",
            "key",
            "kind",
            "name",
            "status",
            "repository",
            "branch",
            "commit",
            "commit_message",
            "driver",
            "by",
        )
        values = dict(zip((*names, "created_at", "priority"), rows.run_values(new), strict=True))
        submitted = rows.event_values(RunSubmitted(new.created_at, new.by))
        values |= dict(zip(("event_kind", "event_at", "event_body"), submitted, strict=True))
        jobs = [{"job": i, "name": job.name, "stage": job.stage} for i, job in enumerate(new.spec.jobs)]
        values["jobs"] = rows.encode(jobs)
        values["spec"] = await asyncio.to_thread(rows.spec_text, new.spec)

        async def act(connection: Connection) -> RunRow:
            for name, value in (
                ("create_run", values),
                ("select_run_by_key", (values["key"],)),
                ("select_run", (values["id"],)),
            ):
                row = await (await connection.execute(SQL[name], value)).fetchone()
                if row is not None:
                    return rows.read_run(row)
            raise StoreError(f"{self._database.place} did not store the run")

        row = await self._database.call(act)
        self._watch.tell()
        return row, row.id == values["id"]

    async def commit(
        self, claim: Claim, events: Sequence[Event], changes: Changes, settled: Iterable[int] = ()
    ) -> None:
        """Append `events`, write the rows that changed and delete the `settled` requests, in one transaction."""
        await self._writer(claim.run_id).write(make_batch(claim, events, changes, settled))

    async def claim(self, run_id: str, owner: str, place: str = "") -> Claim:
        """Take the run with the next fence; RunBusyError while another owner is alive and has a lease."""

        async def act(connection: Connection) -> Claim:
            async with connection.pipeline(), connection.transaction():  # two round trips instead of six
                await connection.execute(SQL["lock_run"], (run_id,))
                row = await (await connection.execute(SQL["select_holder"], (run_id,))).fetchone()
                if row is None:
                    raise no_run(run_id)
                number, live, holder, fence, seq, *process = row
                if live and holder != owner and not is_known_dead(holding := Process(*process)):
                    raise run_busy(number, holding)
                await connection.execute(SQL["start_lease"], self._lease(owner, CLAIM_LEASE_S, place))
                await connection.execute(SQL["claim_run"], (owner, fence + 1, place, run_id))
            self._known[run_id] = (fence + 1, seq)
            return Claim(run_id, owner, fence + 1)

        claim = await self._database.call(act)
        self._watch.tell()
        return claim

    async def release(self, claim: Claim) -> None:
        """Give the run back; others may claim it at once, and the claim is worth nothing any more."""
        values = (claim.run_id, claim.fence)
        tries = 0

        async def act(connection: Connection) -> None:
            nonlocal tries
            tries += 1
            if (await connection.execute(SQL["release_run"], values)).rowcount:
                return
            was_done = tries > 1 and await (await connection.execute(SQL["select_release"], values)).fetchone()
            if not was_done:
                raise fence_lost(claim)

        if self._known.get(claim.run_id, (claim.fence, 0))[0] == claim.fence:
            self._known.pop(claim.run_id, None)
        await self._database.call(act)
        self._watch.tell()

    async def keep_lease(self, owner: str, lease_s: float, place: str = "") -> None:
        """Start or renew the owner's lease, by the server's clock; to be called well before it runs out."""
        values = {**self._lease(owner, lease_s, place), "keep": int(_FORGET_WORKERS_S * 1e6)}
        await self._database.call(lambda connection: connection.execute(SQL["write_lease"], values))

    async def ask(self, run_id: str, kind: str, body: Mapping[str, Any]) -> None:
        """Leave a request for the run's conductor; NotFoundError. It may be left twice if the server went away meanwhile."""
        values = (kind, rows.encode(dict(body)), run_id)

        async def act(connection: Connection) -> None:
            if (await connection.execute(SQL["insert_request"], values)).rowcount == 0:
                raise no_run(run_id)

        await self._database.call(act)
        self._watch.tell()

    async def delete_runs(self, run_ids: Sequence[str]) -> None:
        """Delete final runs and all that belongs to them; a run that is not final, or not there, is left alone."""
        for run_id in run_ids:  # one transaction each, so that none takes long
            await self._database.call(lambda connection, id_=run_id: connection.execute(SQL["delete_run"], (id_,)))  # type: ignore[misc]
        self._watch.tell()

    # ------------------------------------------------------------------------------------------------------- reading

    async def load(self, run_id: str) -> StoredRun:
        """Return the run as it is on record; NotFoundError."""
        found = await self._read("select_stored", (rows.text(run_id),))
        if not found:
            raise no_run(run_id)
        *row, spec, submission, events = found[0]
        run = rows.read_run(row)
        history = tuple(rows.read_event(*event) for event in events)
        if spec is None:
            return StoredRun(run, rows.undefined_spec(run), history, rows.decode(submission))
        return StoredRun(run, rows.read_spec(spec), history)

    async def find_run(self, reference: str) -> RunRow:
        """Return the run with this number or id (or unambiguous start of an id); NotFoundError."""
        text = reference.strip().lower()
        if text.isascii() and text.isdigit() and len(text) < 19:
            found = await self._read("select_run_by_number", (int(text),))
            if found:
                return rows.read_run(found[0])
        found = await self._read("select_runs_by_prefix", {"prefix": rows.text(text)}) if text else []
        if len(found) > 1:
            raise ambiguous(reference)
        if not found:
            raise no_run(reference)
        return rows.read_run(found[0])

    async def list_runs(self, which: RunFilter) -> list[RunRow]:
        """Return the runs that match, newest first."""
        values = {
            "before": which.before,
            "statuses": None if which.statuses is None else sorted(which.statuses),
            "name": rows.text(which.name),
            "repository": rows.text(which.repository),
            "branch": rows.text(which.branch),
            "by": rows.text(which.by),
            "limit": which.limit,
        }
        # planned anew each time, as the best plan depends on which of the filters are there
        return [rows.read_run(row) for row in await self._read("select_runs", values, prepare=False)]

    async def read_events(self, run_id: str, after: int) -> list[tuple[int, Event]]:
        """Return the events with a sequence number (from 1) above `after`, in order; none of a run that is not there."""
        found = await self._read("select_events", (rows.text(run_id), after))
        return [(seq, rows.read_event(*event)) for seq, *event in found]

    async def read_requests(self, run_id: str) -> list[Request]:
        """Return the requests of the run that are not settled yet, oldest first."""
        found = await self._read("select_requests", (rows.text(run_id),))
        return [Request(id_, run, kind, rows.decode(body)) for id_, run, kind, body in found]

    async def wait_for_change(self, timeout_s: float) -> bool:
        """Return True as soon as anything may have been written, by this process or another; False after the time-out."""
        return await self._watch.wait(timeout_s)

    # -------------------------------------------------------------------------------------------------------- pieces

    async def _read(self, name: str, values: Any, *, prepare: bool | None = None) -> list[tuple[Any, ...]]:
        async def act(connection: Connection) -> list[tuple[Any, ...]]:
            return await (await connection.execute(SQL[name], values, prepare=prepare)).fetchall()

        return await self._database.call(act)

    def _writer(self, run_id: str) -> Writer:
        return self._writers[zlib.crc32(run_id.encode()) % len(self._writers)]

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
