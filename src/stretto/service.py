"""The waist on this host: joins definitions, sources, store, engine and reports. Decides nothing itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from stretto.compilation import Compiler
from stretto.core.again import keep
from stretto.core.errors import DriverError, FenceLostError, InputError, NotFoundError, RunBusyError
from stretto.core.events import Event, RunEnded
from stretto.core.frozen import frozen
from stretto.core.ports import (
    Claim,
    Driver,
    NewRequest,
    NewRun,
    Repositories,
    RunFilter,
    RunRow,
    Source,
    Store,
    UploadStore,
)
from stretto.core.run import Run
from stretto.core.spec import AttemptKey, RunSpec
from stretto.core.states import FINAL, Status
from stretto.core.upload import Upload, check_facts, make_upload
from stretto.engine.attempt import Places
from stretto.engine.conductor import CANCEL
from stretto.engine.leases import hold
from stretto.engine.recovery import reap, replay
from stretto.engine.slots import Slots
from stretto.engine.tenure import Means, Tenure, carry_on
from stretto.reports.build import build
from stretto.reports.model import Report
from stretto.waist import LogRequest, RunRequest, StoredArtifact, Swept, Watcher, request_from_json, request_to_json

log = logging.getLogger(__name__)

PAGE = 500
"""How many runs `gc` reads at once."""
KEEP_TREES = timedelta(hours=1)
"""A checkout used less than this ago is kept whatever the limit: making it again right away is slow."""
KEEP_UNUSED = timedelta(days=1)
"""Uploads and artifacts that no run uses are kept this long: what uses them may be about to go on record."""
CHUNK_BYTES = 1 << 18
"""How much of an artifact is read at once."""
LOOK_AGAIN_S = 2.0
"""How long `watch` waits for a change before it looks all the same."""


@frozen
class ServiceParts:
    """What the service joins; made by `wiring`.

    `driver` gives the driver of a name (one of `driver_names`), made on first use. `attempts` is where attempts have their
    directories. `owner` names this process among conductors, `place` the back-ends that it reaches. With `serves`, runs are
    left to the conductors of a server. `keep_days` and `keep_bytes` are what `gc` leaves unless told.
    """

    store: Store
    repositories: Repositories
    driver: Callable[[str], Driver]
    driver_names: tuple[str, ...]
    default_driver: str
    places: Places
    attempts: Path
    jobs: int
    prepare_ahead: int
    owner: str
    uploads: UploadStore
    upload_limit_bytes: int
    place: str
    keep_days: float
    keep_bytes: int
    serves: bool = False


class Service:
    """The waist over a store on this host."""

    is_server = False

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self._compiler = Compiler(
            parts.repositories, parts.uploads, default_driver=parts.default_driver, check_driver=parts.driver
        )
        self._slots: dict[int, Slots] = {}
        self._checkouts: dict[str, asyncio.Task[Path]] = {}
        self._conducting: set[str] = set()
        self.announce: Callable[[Iterable[str]], None] | None = None
        """Told of the ids of runs that `accept` stored, for a queue; returns at once and never fails."""
        self.means = Means(
            store=parts.store,
            driver=parts.driver,
            trees=self,
            places=parts.places,
            compile=self.compile_accepted,
            attempts=parts.attempts,
            prepare_ahead=parts.prepare_ahead,
            place=parts.place,
        )
        """What runs are carried on with, by this process's commands and its conductor."""

    # ------------------------------------------------------------------------------------------------------ asking

    async def compile(self, request: RunRequest) -> list[RunSpec]:
        """See `Waist.compile`."""
        return (await self._compiler.compile(request))[1]

    async def submit(self, request: RunRequest, *, stored: Callable[[RunRow], None] | None = None) -> list[RunRow]:
        """See `Waist.submit`."""
        source, specs = await self._compiler.compile(request)
        self._begin_checkout(source)
        storing = asyncio.create_task(self._store(request, specs, stored), name="store runs")
        try:
            return await asyncio.shield(storing)
        except asyncio.CancelledError:
            try:
                await asyncio.shield(storing)  # short, and what is half stored helps nobody
            finally:
                await self._drop_checkout(source)
            raise

    async def accept(self, request: RunRequest) -> list[tuple[RunRow, bool]]:
        """Store what is asked for, to be compiled by whoever conducts it: a run for each pipeline named, or one.

        False with a run whose idempotency key was there already. Looks at no repository.
        """
        if request.upload is not None:
            upload = await self._parts.uploads.use(request.upload)
            request = replace(request, repository=upload.repository, branch=upload.branch)
        new = []
        for name in request.pipelines or ("",):
            one = replace(request, pipelines=(name,) if name else ())
            new.append(
                NewRequest(
                    request_to_json(one),
                    self._now(),
                    name=name or PurePosixPath(request.file or request.repository or "pipeline").stem,
                    repository=request.repository,
                    branch=request.branch,
                    by=request.by,
                    idempotency_key=request.idempotency_key and f"{request.idempotency_key}/{name}",
                    driver=request.driver,
                    priority=request.priority,
                )
            )
        stored = await self._parts.store.accept(new)
        if self.announce is not None:
            self.announce(row.id for row, is_new in stored if is_new)
        return stored

    async def add_upload(
        self,
        data: AsyncIterator[bytes],
        *,
        commit: str,
        repository: str,
        branch: str | None = None,
        digest: str | None = None,
        by: str = "",
    ) -> Upload:
        """Take a git pack that holds `commit` (full hash) without its history; its id is what `RunRequest.upload` names.

        `repository` is what people call the repository it came from; `digest` is the SHA-256 that the pack must have. The same
        again gives the same. InputError for what can't be, TooLargeError, SourceError for a pack that is not whole or does harm.
        """
        check_facts(commit=commit, repository=repository, branch=branch)
        limit = self._parts.upload_limit_bytes
        async with self._parts.repositories.receive_pack(data, commit=commit, digest=digest, limit_bytes=limit) as pack:
            upload = make_upload(pack, commit=commit, repository=repository, branch=branch, by=by, now=self._now())
            await self._parts.uploads.add(upload, pack.path)
        return upload

    async def compile_accepted(self, row: RunRow, asked: Mapping[str, Any]) -> RunSpec:
        """Return the spec of a run that was accepted, and begin to make its checkout; InputError."""
        request = request_from_json(asked, by=row.by)
        if request.repository is None and request.upload is None:
            raise InputError("no repository was named", hint="a server runs what is in a repository that it is told")
        source, specs = await self._compiler.compile(request)
        if len(specs) != 1:
            await self._parts.repositories.forget(source)
            raise InputError(f"run {row.number} asks for {len(specs)} pipelines; one run is one pipeline")
        self._begin_checkout(source)
        return specs[0]

    async def has_changes(self, request: RunRequest) -> bool:
        """See `Waist.has_changes`."""
        if request.working_tree or request.branch is not None or request.commit is not None:
            return False
        return await self._parts.repositories.has_changes(request.repository, cwd=request.directory)

    async def conduct(self, run: str, *, jobs: int | None = None, watch: Watcher | None = None) -> Report:
        """See `Waist.conduct`."""
        parts = self._parts
        row = await parts.store.find_run(run)
        async with hold(parts.store, parts.owner, place=parts.place) as lease:
            claim = await parts.store.claim(row.id, parts.owner, parts.place)
            self._conducting.add(row.id)
            try:
                count = jobs or parts.jobs  # the runs of one command share their slots
                slots = self._slots.setdefault(count, Slots(count))
                await carry_on(self.means, Tenure(claim, slots, lease.held, watch=watch))
            finally:
                self._conducting.discard(row.id)
                await self._release(claim)
        return await self.report(row.id)

    async def cancel(self, run: str, *, job: str | None = None, by: str = "", force: bool = False) -> RunRow:
        """See `Waist.cancel`."""
        store = self._parts.store
        row = await store.find_run(run)
        if row.status in FINAL:
            raise InputError(f"run {row.number} is over already: {row.status}")
        if job is not None:
            stored = await store.load(row.id)
            names = [known.name for known in stored.spec.jobs]
            if stored.request is None and job not in names:
                raise _no_job(row, job, names)
        await store.ask(row.id, CANCEL, {"job": job, "by": by, "force": force})
        try:
            if not self._parts.serves and row.id not in self._conducting:
                await self.conduct(row.id)  # nobody may be there to do it
        except RunBusyError:
            pass  # its owner takes the request from the store
        return await store.find_run(row.id)

    async def retry(self, run: str, *, failed_only: bool = True, by: str = "") -> RunRow:
        """See `Waist.retry`."""
        store, now = self._parts.store, self._now()
        row = await store.find_run(run)
        if row.status not in FINAL:
            raise InputError(f"run {row.number} is {row.status}: what is not over can't be done again")
        stored = await store.load(row.id)
        if stored.request is not None:  # it never came to a spec
            request = NewRequest(
                stored.request,
                now,
                kind=row.kind,
                name=row.name,
                repository=row.repository,
                branch=row.branch,
                by=by,
                priority=row.priority,
                retry_of=row.number,
            )
            return (await store.accept([request]))[0][0]
        if failed_only and row.status is Status.SUCCESS:
            message = f"run {row.number} has no job that failed: there is nothing to do again"
            raise InputError(message, hint=f"`stretto retry {row.number} --all` runs every job again")
        kept = keep(replay(row.id, stored.spec, stored.events), row.number, now) if failed_only else ()
        new = NewRun(stored.spec, now, by, priority=row.priority, retry_of=row.number, kept=kept)
        return (await store.create_run(new))[0]

    # ----------------------------------------------------------------------------------------------------- reading

    async def find_run(self, run: str) -> RunRow:
        """See `Waist.find_run`."""
        return await self._parts.store.find_run(run)

    async def list_runs(self, which: RunFilter) -> list[RunRow]:
        """See `Waist.list_runs`."""
        return await self._parts.store.list_runs(which)

    async def report(self, run: str) -> Report:
        """See `Waist.report`."""
        row, state = await self._load(run)
        return build(row, state, now=self._now())

    async def find_spec(self, run: str) -> RunSpec | None:
        """Return what the run consists of, None while it is not compiled; NotFoundError."""
        row = await self._parts.store.find_run(run)
        stored = await self._parts.store.load(row.id)
        return None if stored.request is not None else stored.spec

    async def read_events(self, run: str, after: int = 0) -> list[tuple[int, Event]]:
        """Return the run's events after sequence number `after` that are on record by now; NotFoundError."""
        row = await self._parts.store.find_run(run)
        return await self._parts.store.read_events(row.id, after)

    async def watch(self, run: str, after: int = 0) -> AsyncIterator[tuple[int, Event]]:
        """See `Waist.watch`."""
        store = self._parts.store
        row = await store.find_run(run)
        while True:
            for number, event in await store.read_events(row.id, after):
                after = number
                yield number, event
                if type(event) is RunEnded:
                    return
            await store.wait_for_change(LOOK_AGAIN_S)

    async def logs(self, request: LogRequest) -> AsyncIterator[bytes]:
        """See `Waist.logs`."""
        key = await self._attempt(request)

        async def is_over() -> bool:
            _, state = await self._load(key.run_id)
            job = state.job(key.job)
            return job.attempts[key.number - 1].status in FINAL or len(job.attempts) > key.number

        async for data in self._parts.places.logs.read(
            key, offset=request.offset, follow=request.follow, is_over=is_over
        ):
            yield data

    async def log_size(self, request: LogRequest) -> int:
        """Return how many bytes of an attempt's output there are by now; NotFoundError."""
        return await self._parts.places.logs.size(await self._attempt(request))

    async def log_lines(self, request: LogRequest) -> list[tuple[datetime, bytes]]:
        """See `Waist.log_lines`."""
        return await self._parts.places.logs.lines(await self._attempt(request))

    async def artifacts(self, run: str, *, job: str | None = None) -> list[StoredArtifact]:
        """See `Waist.artifacts`."""
        row, state = await self._load(run)
        if job is not None and job not in state.graph.index:
            raise _no_job(row, job, list(state.graph.index))
        store = self._parts.places.artifacts
        return [
            StoredArtifact(
                known.spec.name,
                state.artifacts_key(known).number,
                artifact,
                await store.find(artifact),
                row.id,
            )
            for known in state.jobs
            if job in (None, known.spec.name)
            for artifact in known.artifacts
        ]

    async def artifact_data(self, stored: StoredArtifact) -> AsyncIterator[bytes]:
        """See `Waist.artifact_data`."""
        if stored.artifact.link is not None:
            return
        path = await self._parts.places.artifacts.path(stored.artifact)
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError as error:
            raise NotFoundError(f"artifact {stored.artifact.path!r} of {stored.job!r} is not kept any more") from error
        with file:
            while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield data

    async def gc(self, *, keep_days: float | None, max_bytes: int | None, dry_run: bool = False) -> Swept:
        """See `Waist.gc`."""
        parts, now = self._parts, self._now()
        limit = parts.keep_bytes if max_bytes is None else max_bytes
        old: list[RunRow] = []
        done_again: set[int] = set()  # runs whose jobs, with logs and artifacts, a run that stays has kept
        unfinished: list[RunRow] = []
        before: int | None = None
        since = now - timedelta(days=parts.keep_days if keep_days is None else keep_days)
        while page := await parts.store.list_runs(RunFilter(before=before, limit=PAGE)):
            before = page[-1].number
            for row in page:  # newest first, and a run is newer than the one that it does again
                if row.ended_at is None:
                    unfinished.append(row)
                if row.ended_at is not None and row.ended_at < since and row.number not in done_again:
                    old.append(row)
                elif row.retry_of is not None:
                    done_again.add(row.retry_of)
        attempts = await self.reap(dry_run=dry_run)
        if dry_run:
            return Swept(runs=len(old), attempts=attempts)
        just_asked = "SELECT retry_of FROM run WHERE retry_of IS NOT NULL AND ended_at IS NULL"
        done_again = {number for (number,) in await parts.store.tables.read(just_asked)}
        old = [row for row in old if row.number not in done_again]  # to look took a while
        freed = 0
        for row in old:
            freed += await parts.places.logs.delete(row.id) + await parts.places.artifacts.delete(row.id)
        await parts.store.delete_runs([row.id for row in old])  # last: cut off before, all of it is done again
        kept = {id_ for (id_,) in await parts.store.tables.read("SELECT id FROM run")}
        freed += await parts.places.artifacts.sweep(kept, now - KEEP_UNUSED)
        freed += await parts.uploads.delete_unused(now - KEEP_UNUSED)
        in_use = [
            spec.source for row in unfinished if (spec := (await parts.store.load(row.id)).spec).source is not None
        ]
        freed += await parts.repositories.gc(keep_newer_than=now - KEEP_TREES, max_bytes=limit, in_use=in_use)
        return Swept(runs=len(old), attempts=attempts, freed_bytes=freed)

    # ------------------------------------------------------------------------------------------------------ pieces

    def _now(self) -> datetime:
        return self._parts.places.clock.now()

    async def _store(
        self, request: RunRequest, specs: list[RunSpec], stored: Callable[[RunRow], None] | None
    ) -> list[RunRow]:
        rows = []
        for spec in specs:
            key = request.idempotency_key and f"{request.idempotency_key}/{spec.name}"
            row, _ = await self._parts.store.create_run(
                NewRun(spec, self._now(), request.by, key, priority=request.priority)
            )
            rows.append(row)
            if stored is not None:
                stored(row)
        return rows

    def _begin_checkout(self, source: Source) -> None:
        """Make the checkout while the runs are being stored; `checkout` waits for it."""
        commit = source.spec.commit
        if commit not in self._checkouts:
            self._checkouts[commit] = asyncio.create_task(
                self._parts.repositories.checkout_source(source), name=f"checkout {commit[:12]}"
            )

    async def close(self) -> None:
        """End the checkouts that were begun for runs which nobody took up here. To be called before the loop ends.

        A loop that ends cancels every task, that which starts a git too, and what asyncio (3.11) then waits for never comes.
        """
        begun = list(self._checkouts.values())
        self._checkouts.clear()
        for checkout in begun:
            checkout.cancel()
        await asyncio.gather(*begun, return_exceptions=True)

    async def _drop_checkout(self, source: Source) -> None:
        if (begun := self._checkouts.pop(source.spec.commit, None)) is not None:
            begun.cancel()
            await asyncio.gather(begun, return_exceptions=True)

    async def checkout(self, run: Run) -> Path | None:
        """Return the run's checkout, as `core.ports.Trees` has it."""
        source = run.spec.source
        if source is not None and (begun := self._checkouts.pop(source.commit, None)) is not None:
            return await begun
        return await self._parts.repositories.checkout(run)

    async def reap(self, *, dry_run: bool = False) -> int:
        """Remove what drivers have of runs that are over or unknown; a driver whose back-end is away is passed over."""
        count = 0

        async def is_over(run_id: str) -> bool:
            try:
                return (await self._parts.store.find_run(run_id)).status in FINAL
            except NotFoundError:
                return True  # a run is stored before anything of it is started

        for name in self._parts.driver_names:
            try:
                count += await reap(self._parts.driver(name), is_over, dry_run=dry_run)
            except DriverError as error:
                log.info("driver passed over", extra={"driver": name, "error": error.message})
        return count

    async def _release(self, claim: Claim) -> None:
        try:
            await self._parts.store.release(claim)
        except FenceLostError:
            pass  # another conductor has it, which is what a release is for

    async def _load(self, run: str) -> tuple[RunRow, Run]:
        row = await self._parts.store.find_run(run)
        stored = await self._parts.store.load(row.id)
        return stored.row, replay(row.id, stored.spec, stored.events)

    async def _attempt(self, request: LogRequest) -> AttemptKey:
        """Return the key of the attempt whose log is meant; with `follow`, wait for the first one to start."""
        row, state = await self._load(request.run)
        if request.job not in state.graph.index:
            raise _no_job(row, request.job, list(state.graph.index))
        job = state.job(request.job)
        if job.kept is not None and request.attempt is None:
            return state.artifacts_key(job)
        while request.follow and not job.attempts and job.status not in FINAL:
            await self._parts.store.wait_for_change(LOOK_AGAIN_S)
            row, state = await self._load(request.run)
            job = state.job(request.job)
        number = request.attempt or len(job.attempts)
        if not 1 <= number <= len(job.attempts):
            had = (
                f"it has had {len(job.attempts)} attempts"
                if job.attempts
                else f"it is {job.status} and was never started"
            )
            raise NotFoundError(f"run {row.number}, job {request.job!r}: no attempt {number or 1}; {had}")
        return AttemptKey(row.id, request.job, number)


def _no_job(row: RunRow, job: str, known: list[str]) -> NotFoundError:
    told = ", ".join(known[:10]) + (" …" if len(known) > 10 else "")
    return NotFoundError(f"run {row.number} has no job {job!r}", hint=f"its jobs: {told}")
