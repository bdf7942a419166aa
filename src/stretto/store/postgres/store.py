"""The store of several conductors and API servers: one schema of a PostgreSQL database.

Commits, submissions and releases go through a `Writer` (group commit), everything else through a pool. A call during which the
server goes away is made again, so each either may be repeated or finds out whether it was done.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final

import psycopg

from stretto.core.errors import StoreError
from stretto.core.events import Event
from stretto.core.ports import Claim, NewRequest, NewRun, Request, RunFilter, RunRow, StoredRun, Tables, Wanted
from stretto.core.run import Changes
from stretto.core.spec import RunSpec
from stretto.store import rows
from stretto.store.batch import Batch, ambiguous, fence_lost, make_batch, no_run
from stretto.store.postgres import schema
from stretto.store.postgres.append import SQL, Append, Known, give_up, write_appends
from stretto.store.postgres.claims import Claims, write_releases
from stretto.store.postgres.database import Connection, Database, Patience, Retry
from stretto.store.postgres.submit import new_jobs, of_request, of_run, write_submissions
from stretto.store.postgres.tables import PostgresTables
from stretto.store.postgres.watch import Watch
from stretto.store.postgres.writer import Writer

log = logging.getLogger(__name__)

_WRITERS: Final = 2
"""Connections that commits are spread over: one syncs while the other's group is put together."""


class PostgresStore:
    """A `Store` in a PostgreSQL database; get it with `open`. Any number of processes may have the same one open."""

    def __init__(self, database: Database, writers: int) -> None:
        self._database = database
        patience, known = database.patience, Known()
        self._claims = Claims(database, known)
        self._watch = Watch(database)
        self.tables: Tables = PostgresTables(database, self._watch.tell)

        def append(connection: Connection, appends: Sequence[Append]) -> Awaitable[None]:
            return write_appends(connection, appends, known)

        def give_up_appends(appends: Sequence[Append]) -> None:
            give_up(appends, known)

        tell = self._watch.tell
        self._writers = [
            Writer(database, append, patience_s=patience.commit_s, written=tell, gave_up=give_up_appends)
            for _ in range(writers)
        ]
        self._submitter = Writer(database, write_submissions, patience_s=patience.call_s, written=tell)
        self._releaser = Writer(database, write_releases, patience_s=patience.commit_s, written=tell)

    @classmethod
    async def open(
        cls, url: str, *, writers: int = _WRITERS, patience: Patience | None = None, wait_s: float = 0.0
    ) -> PostgresStore:
        """Open the store at `url`; SchemaError where its tables are not this version's, StoreError where it can't be had.

        For a server that does not answer, as one that is just starting, it waits up to `wait_s`.
        """
        database = Database(url, patience=patience)
        store = cls(database, writers)
        connection = await _connect(database, wait_s)
        try:
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
        store._submitter.start("stretto-store-submitter")
        store._releaser.start("stretto-store-releaser")
        return store

    async def close(self) -> None:
        """Write what was accepted, then let go of the connections. May be called again."""
        for writer in self._writers:
            await writer.close()
        await self._submitter.close()
        await self._releaser.close()
        await self._watch.close()
        await self._database.close()

    # ------------------------------------------------------------------------------------------------------- writing

    async def create_run(self, new: NewRun) -> tuple[RunRow, bool]:
        """Store run, jobs and first events in one transaction; False where the idempotency key was already there."""
        spec = await asyncio.to_thread(rows.spec_text, new.spec)
        (stored,) = await self._submitter.write([of_run(new, spec)])
        return stored  # type: ignore[no-any-return]

    async def accept(self, new: Sequence[NewRequest]) -> list[tuple[RunRow, bool]]:
        """Store undefined runs with RunSubmitted, all in one transaction; False where the idempotency key was already there."""
        return await self._submitter.write([of_request(it) for it in new])  # type: ignore[no-any-return]

    async def define(self, claim: Claim, spec: RunSpec) -> RunRow:
        """Give an undefined run its spec; FenceLostError, StoreError if it has one already."""
        names = ("kind", "name", "repository", "branch", "commit", "commit_message")
        values = dict(zip(names, rows.defined_values(spec), strict=True))
        values |= {"id": claim.run_id, "fence": claim.fence, "jobs": rows.encode(new_jobs(spec))}
        values["spec"] = await asyncio.to_thread(rows.spec_text, spec)
        tries = 0

        async def act(connection: Connection) -> RunRow:
            nonlocal tries
            tries += 1
            row = await (await connection.execute(SQL["define_run"], values)).fetchone()
            if row is not None:
                return rows.read_run(row)
            row = await (await connection.execute(SQL["select_defined"], (claim.run_id, claim.fence))).fetchone()
            if row is None:
                raise fence_lost(claim)
            if tries == 1:
                raise StoreError(f"run {rows.read_run(row).number} is defined already")
            return rows.read_run(row)  # by an earlier try, whose answer was lost

        row = await self._database.call(act)
        self._watch.tell()
        return row

    async def commit(
        self, claim: Claim, events: Sequence[Event], changes: Changes, settled: Iterable[int] = ()
    ) -> None:
        """Append `events`, write the rows that changed and delete the `settled` requests, in one transaction."""
        await self._writer(claim.run_id).write(make_batch(claim, events, changes, settled))

    async def claim(self, run_id: str, owner: str, place: str = "") -> Claim:
        """Take the run with the next fence; RunBusyError while another owner is alive and has a lease."""
        claim = await self._claims.take(run_id, owner, place)
        self._watch.tell()
        return claim

    async def claim_next(self, owner: str, wanted: Wanted) -> list[Claim]:
        """Take runs that are not over and that no live owner holds: by priority, then in turns between who submitted them."""
        claims = await self._claims.take_next(owner, wanted)
        if claims:
            self._watch.tell()
        return claims

    async def unpublished(self, *, older_than_s: float, again_after_s: float, limit: int) -> list[str]:
        """Return undefined runs to tell the queue of: not told of for `older_than_s`, or told of `again_after_s` ago."""
        values = {"older": int(older_than_s * 1e6), "again": int(again_after_s * 1e6), "limit": limit}
        return [run_id for (run_id,) in await self._read("select_unpublished", values)]

    async def mark_published(self, run_ids: Sequence[str]) -> None:
        """Take note that the queue has these runs."""
        ids = list(run_ids)
        await self._database.call(lambda connection: connection.execute(SQL["mark_published"], (ids,)))

    async def release(self, claim: Claim) -> None:
        """Give the run back; others may claim it at once, and the claim is worth nothing any more."""
        self._claims.forget(claim)
        await self._releaser.write(claim)

    async def keep_lease(self, owner: str, lease_s: float, place: str = "") -> None:
        """Start or renew the owner's lease, by the server's clock; to be called well before it runs out."""
        await self._claims.keep_lease(owner, lease_s, place)

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

    def _writer(self, run_id: str) -> Writer[Batch]:
        return self._writers[zlib.crc32(run_id.encode()) % len(self._writers)]


async def _connect(database: Database, wait_s: float) -> Connection:
    """Return a connection to a database whose tables are this version's."""
    retry, told = Retry(wait_s), False
    while True:
        try:
            connection = await database.connect()
            try:
                await schema.check(connection, database.place)
            except BaseException:
                await connection.close()
                raise
            return connection
        except (psycopg.Error, OSError) as error:
            if wait_s and not told:
                extra = {"store": database.place, "wait_s": wait_s, "error": str(error)}
                log.warning("the database does not answer; waiting for it", extra=extra)
                told = True
            if not await retry.pause_after(error):
                raise database.error(error) from error
