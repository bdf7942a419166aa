"""The embedded store: one SQLite file, several processes, nothing acknowledged that is not on disk.

Writes go through `Writer` (group commit); reads use connections of their own in threads and never wait for it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from stretto.core.errors import StoreError
from stretto.core.events import Event, RunSubmitted
from stretto.core.ports import Claim, NewRequest, NewRun, Request, RunFilter, RunRow, StoredRun, Tables, Wanted
from stretto.core.run import Changes
from stretto.core.spec import RunSpec
from stretto.store import rows
from stretto.store.append import SQL, write_appends
from stretto.store.batch import ambiguous, fence_lost, make_batch, no_run, run_busy
from stretto.store.failure import is_busy, store_error
from stretto.store.migration import migrate, read_migrations
from stretto.store.owner import Process, is_known_dead, this_process
from stretto.store.reader import Reader, connect
from stretto.store.tables import SqliteTables
from stretto.store.writer import PATIENCE_S, Append, Work, Writer

T = TypeVar("T")

CLAIM_LEASE_S: Final = 30.0
"""The lease of an owner that claims a run without having one, so that no claim is unprotected."""
_RETRY_S: Final = 0.005
_FORGET_WORKERS_S: Final = 86_400.0
"""How long the row of a conductor that is gone stays, for people to look at."""
_MINIMUM_SQLITE: Final = (3, 37, 0)  # STRICT tables; RETURNING is older


class SqliteStore:
    """A `Store` in one file; get it with `open`. Several processes may have the same file open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process = this_process()
        self._writer = Writer(path, self._connect_writer, write_appends)
        self._reader = Reader(path)
        self.tables: Tables = SqliteTables(self._writer, self._reader)

    @classmethod
    async def open(cls, path: Path) -> SqliteStore:
        """Open the store at `path`, making it or bringing it up to date where needed; SchemaError, StoreError."""
        if sqlite3.sqlite_version_info < _MINIMUM_SQLITE:
            raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or later is needed")
        store = cls(path)
        await store._writer.open()
        store._reader.open()
        return store

    async def close(self) -> None:
        """Write what was accepted, move it into the database proper, let go of the file. May be called again."""
        await self._writer.close()
        self._reader.close()

    # ------------------------------------------------------------------------------------------------------- writing

    async def create_run(self, new: NewRun) -> tuple[RunRow, bool]:
        """Store run, jobs and first events in one transaction; False where the idempotency key was already there."""
        values = rows.run_values(new)
        spec = await asyncio.to_thread(rows.spec_text, new.spec)
        begin = rows.first_events(new)
        events = [rows.event_values(event) for event in begin]
        changes = rows.first_changes(new) if new.kept else None

        def act(connection: sqlite3.Connection) -> tuple[RunRow, bool]:
            if new.idempotency_key is not None:
                known = connection.execute(SQL["select_run_by_key"], (new.idempotency_key,)).fetchone()
                if known is not None:
                    return rows.read_run(known), False
            number = connection.execute(SQL["insert_run"], values).lastrowid
            connection.executemany(SQL["insert_event"], [(number, i, *event) for i, event in enumerate(events, 1)])
            if new.retry_of is not None:
                connection.execute(SQL["set_retry"], (new.retry_of, number))
            _insert_spec(connection, number, new.spec, spec)
            if changes is not None:
                connection.execute(SQL["set_seq"], (len(events), number))
                jobs, artifacts = rows.changed_jobs(changes), rows.left_artifacts(begin, changes)
                connection.executemany(SQL["update_job"], [(*row[:-1], number, row[-1]) for row in jobs])
                connection.executemany(SQL["insert_artifact"], [(number, *row) for row in artifacts])
            return rows.read_run(connection.execute(SQL["select_run"], (values[0],)).fetchone()), True

        stored = await self._write(act)
        self._reader.wake()
        return stored

    async def accept(self, new: Sequence[NewRequest]) -> list[tuple[RunRow, bool]]:
        """Store undefined runs with RunSubmitted, all in one transaction; False where the idempotency key was already there."""
        prepared = [
            (
                it,
                rows.request_values(it),
                rows.encode(dict(it.body)),
                rows.event_values(RunSubmitted(it.created_at, it.by)),
            )
            for it in new
        ]

        def act(connection: sqlite3.Connection) -> list[tuple[RunRow, bool]]:
            done = []
            for it, values, body, submitted in prepared:
                key = it.idempotency_key
                known = None if key is None else connection.execute(SQL["select_run_by_key"], (key,)).fetchone()
                if known is None:
                    number = connection.execute(SQL["insert_run"], values).lastrowid
                    connection.execute(SQL["insert_event"], (number, 1, *submitted))
                    connection.execute(SQL["insert_submission"], (number, body, _now()))
                    if it.retry_of is not None:
                        connection.execute(SQL["set_retry"], (it.retry_of, number))
                row = known or connection.execute(SQL["select_run"], (values[0],)).fetchone()
                done.append((rows.read_run(row), known is None))
            return done

        stored = await self._write(act)
        self._reader.wake()
        return stored

    async def define(self, claim: Claim, spec: RunSpec) -> RunRow:
        """Give an undefined run its spec; FenceLostError, StoreError if it has one already."""
        text = await asyncio.to_thread(rows.spec_text, spec)

        def act(connection: sqlite3.Connection) -> RunRow:
            passed = connection.execute(SQL["pass_fence"], (claim.run_id, claim.fence)).fetchone()
            if passed is None:
                raise fence_lost(claim)
            number, _ = passed
            if connection.execute(SQL["delete_submission"], (number,)).rowcount == 0:
                raise StoreError(f"run {number} is defined already")
            connection.execute(SQL["define_run"], (*rows.defined_values(spec), number))
            _insert_spec(connection, number, spec, text)
            return rows.read_run(connection.execute(SQL["select_run"], (claim.run_id,)).fetchone())

        return await self._write(act)

    async def commit(
        self, claim: Claim, events: Sequence[Event], changes: Changes, settled: Iterable[int] = ()
    ) -> None:
        """Append `events`, write the rows that changed and delete the `settled` requests, in one transaction."""
        await self._writer.write(Append(make_batch(claim, events, changes, settled)))

    async def claim(self, run_id: str, owner: str, place: str = "") -> Claim:
        """Take the run with the next fence; RunBusyError while another owner is alive and has a lease."""

        def act(connection: sqlite3.Connection) -> Claim:
            row = connection.execute(SQL["select_holder"], (run_id,)).fetchone()
            if row is None:
                raise no_run(run_id)
            if row[3] != owner and (holding := _live_holder(row)) is not None:
                raise run_busy(row[1], holding)
            return self._claim(connection, row, owner, place)

        return await self._write(act)

    async def claim_next(self, owner: str, wanted: Wanted) -> list[Claim]:
        """Take runs that are not over and that no live owner holds: by priority, then in turns between who submitted them."""

        def act(connection: sqlite3.Connection) -> list[Claim]:
            values = {
                "now": _now(),
                "silent": _now() - int(wanted.abandon_s * 1e6),
                "realm": self._process.realm,
                "place": wanted.place,
                "undefined": wanted.undefined,
                "limit": -1,
            }
            claims: list[Claim] = []
            for row in connection.execute(SQL["select_wanted"], values).fetchall():
                if len(claims) >= wanted.limit:
                    break
                if _live_holder(row) is None:
                    claims.append(self._claim(connection, row, owner, wanted.place))
            return claims

        return await self._write(act)

    async def unpublished(self, *, older_than_s: float, again_after_s: float, limit: int) -> list[str]:
        """Return undefined runs to tell the queue of: not told of for `older_than_s`, or told of `again_after_s` ago."""
        values = (_now() - int(older_than_s * 1e6), _now() - int(again_after_s * 1e6), limit)
        return await self._reader.read(
            lambda connection: [run_id for (run_id,) in connection.execute(SQL["select_unpublished"], values)]
        )

    async def mark_published(self, run_ids: Sequence[str]) -> None:
        """Take note that the queue has these runs."""

        def act(connection: sqlite3.Connection) -> None:
            connection.executemany(SQL["mark_published"], [(_now(), run_id) for run_id in run_ids])

        await self._write(act)

    async def release(self, claim: Claim) -> None:
        """Give the run back; others may claim it at once, and the claim is worth nothing any more."""

        def act(connection: sqlite3.Connection) -> None:
            if connection.execute(SQL["release_run"], (claim.run_id, claim.fence)).rowcount == 0:
                raise fence_lost(claim)

        await self._write(act)
        self._reader.wake()

    async def keep_lease(self, owner: str, lease_s: float, place: str = "") -> None:
        """Start or renew the owner's lease, by this host's clock; to be called well before it runs out."""
        await self._write(lambda connection: self._write_lease(connection, owner, lease_s, place))

    async def ask(self, run_id: str, kind: str, body: Mapping[str, Any]) -> None:
        """Leave a request for the run's conductor; NotFoundError."""
        text = rows.encode(dict(body))

        def act(connection: sqlite3.Connection) -> None:
            if connection.execute(SQL["insert_request"], (kind, text, _now(), run_id)).rowcount == 0:
                raise no_run(run_id)

        await self._write(act)
        self._reader.wake()

    async def delete_runs(self, run_ids: Sequence[str]) -> None:
        """Delete final runs and all that belongs to them; a run that is not final, or not there, is left alone."""
        for run_id in run_ids:  # one transaction each, so that nobody waits long for the writer
            await self._write(lambda connection, id_=run_id: connection.execute(SQL["delete_run"], (id_,)))  # type: ignore[misc]

    # ------------------------------------------------------------------------------------------------------- reading

    async def load(self, run_id: str) -> StoredRun:
        """Return the run as it is on record; NotFoundError."""

        def act(connection: sqlite3.Connection) -> StoredRun:
            row = connection.execute(SQL["select_run"], (run_id,)).fetchone()
            if row is None:
                raise no_run(run_id)
            run, found = rows.read_run(row), connection.execute(SQL["select_spec"], (run_id,)).fetchone()
            events = tuple(
                rows.read_event(*event[1:]) for event in connection.execute(SQL["select_events"], (run_id, 0))
            )
            if found is not None:
                return StoredRun(run, rows.read_spec(found[0]), events)
            (body,) = connection.execute(SQL["select_submission"], (run_id,)).fetchone()
            return StoredRun(run, rows.undefined_spec(run), events, rows.decode(body))

        return await self._reader.read(act)

    async def find_run(self, reference: str) -> RunRow:
        """Return the run with this number or id (or unambiguous start of an id); NotFoundError."""
        text = reference.strip().lower()

        def act(connection: sqlite3.Connection) -> RunRow:
            if text.isascii() and text.isdigit() and len(text) < 19:
                row = connection.execute(SQL["select_run_by_number"], (int(text),)).fetchone()
                if row is not None:
                    return rows.read_run(row)
            found = connection.execute(SQL["select_runs_by_prefix"], {"prefix": text}).fetchall() if text else []
            if len(found) > 1:
                raise ambiguous(reference)
            if not found:
                raise no_run(reference)
            return rows.read_run(found[0])

        return await self._reader.read(act)

    async def list_runs(self, which: RunFilter) -> list[RunRow]:
        """Return the runs that match, newest first."""
        values = {
            "before": which.before,
            "statuses": None if which.statuses is None else rows.encode(sorted(which.statuses)),
            "name": which.name,
            "repository": which.repository,
            "branch": which.branch,
            "by": which.by,
            "limit": which.limit,
        }
        return await self._reader.read(
            lambda connection: [rows.read_run(row) for row in connection.execute(SQL["select_runs"], values)]
        )

    async def read_events(self, run_id: str, after: int) -> list[tuple[int, Event]]:
        """Return the events with a sequence number (from 1) above `after`, in order; none of a run that is not there."""

        def act(connection: sqlite3.Connection) -> list[tuple[int, Event]]:
            found = connection.execute(SQL["select_events"], (run_id, after))
            return [(seq, rows.read_event(*event)) for seq, *event in found]

        return await self._reader.read(act)

    async def read_requests(self, run_id: str) -> list[Request]:
        """Return the requests of the run that are not settled yet, oldest first."""

        def act(connection: sqlite3.Connection) -> list[Request]:
            found = connection.execute(SQL["select_requests"], (run_id,))
            return [Request(id_, run, kind, rows.decode(body)) for id_, run, kind, body in found]

        return await self._reader.read(act)

    async def wait_for_change(self, timeout_s: float) -> bool:
        """Return True as soon as anything may have been written, by this process or another; False after the time-out."""
        return await self._reader.wait_for_change(timeout_s)

    # -------------------------------------------------------------------------------------------------------- pieces

    async def _write(self, act: Callable[[sqlite3.Connection], T]) -> T:
        result: T = await self._writer.write(Work(act))
        return result

    def _connect_writer(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = connect(self._path, PATIENCE_S)
            try:
                _set_wal(connection)
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA foreign_keys = ON")
                migrate(connection, self._path, read_migrations())
                connection.execute("PRAGMA busy_timeout = 0")  # the writer waits in its own way
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise store_error(self._path, error) from error
        return connection

    def _claim(self, connection: sqlite3.Connection, row: Sequence[Any], owner: str, place: str) -> Claim:
        """Make the run of a row of `select_holder` the owner's."""
        run_id, fence = row[0], row[4] + 1
        if (lease := connection.execute(SQL["select_lease"], (owner,)).fetchone()) is None or lease[0] < _now():
            self._write_lease(connection, owner, CLAIM_LEASE_S, place)
        connection.execute(SQL["claim_run"], (owner, fence, place, run_id))
        return Claim(run_id, owner, fence)

    def _write_lease(self, connection: sqlite3.Connection, owner: str, lease_s: float, place: str) -> None:
        now, process = _now(), self._process
        connection.execute(SQL["forget_workers"], (now - int(_FORGET_WORKERS_S * 1e6),))
        connection.execute(
            SQL["write_lease"],
            (owner, now + int(lease_s * 1e6), process.host, process.realm, process.pid, process.start, place),
        )


def _now() -> int:
    """Return the store's time in microseconds. All who share the file are on this host, so its clock is the store's."""
    return time.time_ns() // 1_000


def _live_holder(row: Sequence[Any]) -> Process | None:
    """Return the process that holds the run of a row of `select_holder` and has a lease, unless it is known to be dead."""
    _, _, held, _, _, lease_until, *process = row
    if not held or lease_until is None or lease_until <= _now():
        return None
    holder = Process(*process)
    return None if is_known_dead(holder) else holder


def _insert_spec(connection: sqlite3.Connection, number: int | None, spec: RunSpec, text: str) -> None:
    """Store what the run consists of; `text` is `rows.spec_text` of it."""
    connection.execute(SQL["insert_spec"], (number, text))
    connection.executemany(
        SQL["insert_job"], ((number, i, job.name, job.stage, "pending") for i, job in enumerate(spec.jobs))
    )


def _set_wal(connection: sqlite3.Connection) -> None:
    """Set the journal mode. Of two that do so to a new file at once one is told "busy" at once, whatever its timeout."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_S)
        else:
            return
