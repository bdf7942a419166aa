"""The waist on this host: joins definitions, sources, store, engine and reports. Decides nothing itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path

from stretto.compilation import Compiler
from stretto.core.errors import DriverError, FenceLostError, InputError, NotFoundError, RunBusyError
from stretto.core.events import Event, RunEnded
from stretto.core.frozen import frozen
from stretto.core.ports import Claim, Driver, NewRun, Repositories, RunFilter, RunRow, Source, Store
from stretto.core.run import Run
from stretto.core.spec import AttemptKey, RunSpec
from stretto.core.states import FINAL
from stretto.engine.attempt import Places
from stretto.engine.conductor import CANCEL, Conductor, Parts
from stretto.engine.leases import hold
from stretto.engine.recovery import reap, replay, sweep
from stretto.engine.slots import Slots
from stretto.reports.build import build
from stretto.reports.model import Report
from stretto.waist import LogRequest, RunRequest, StoredArtifact, Swept, Watcher

log = logging.getLogger(__name__)

PAGE = 500
"""How many runs `gc` reads at once."""
KEEP_TREES = timedelta(hours=1)
"""A checkout used less than this ago is kept whatever the limit: making it again right away is slow."""
LOOK_AGAIN_S = 2.0
"""How long `watch` waits for a change before it looks all the same."""


@frozen
class ServiceParts:
    """What the service joins; made by `wiring`.

    `driver` gives the driver of a name (one of `driver_names`), made on first use. `attempts` is where attempts have their
    directories. `owner` names this process among conductors.
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


class Service:
    """The waist over a store on this host."""

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self._compiler = Compiler(parts.repositories, default_driver=parts.default_driver, check_driver=parts.driver)
        self._slots: dict[int, Slots] = {}
        self._checkouts: dict[str, asyncio.Task[Path]] = {}
        self._conducting: set[str] = set()

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

    async def has_changes(self, request: RunRequest) -> bool:
        """See `Waist.has_changes`."""
        if request.working_tree or request.branch is not None or request.commit is not None:
            return False
        return await self._parts.repositories.has_changes(request.repository, cwd=request.directory)

    async def conduct(self, run: str, *, jobs: int | None = None, watch: Watcher | None = None) -> Report:
        """See `Waist.conduct`."""
        parts = self._parts
        row = await parts.store.find_run(run)
        async with hold(parts.store, parts.owner) as lease:
            claim = await parts.store.claim(row.id, parts.owner)
            self._conducting.add(row.id)
            try:
                stored = await parts.store.load(row.id)
                state = replay(row.id, stored.spec, stored.events)
                drivers = {name: parts.driver(name) for name in {job.driver for job in stored.spec.jobs}}
                if len(stored.events) > 1:
                    await sweep(state, drivers, self._parts.attempts)
                if not state.is_over:
                    conductor = Conductor(
                        self._conductor_parts(drivers, jobs, lease.held), claim, state, number=row.number, watch=watch
                    )
                    await conductor.conduct()
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
            spec = (await store.load(row.id)).spec
            if job not in {known.name for known in spec.jobs}:
                raise _no_job(row, job, [known.name for known in spec.jobs])
        await store.ask(row.id, CANCEL, {"job": job, "by": by, "force": force})
        try:
            if row.id not in self._conducting:
                await self.conduct(row.id)  # nobody may be there to do it
        except RunBusyError:
            pass  # its owner takes the request from the store
        return await store.find_run(row.id)

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

        async for data in self._parts.places.logs.read(key, follow=request.follow, is_over=is_over):
            yield data

    async def log_lines(self, request: LogRequest) -> list[tuple[datetime, bytes]]:
        """See `Waist.log_lines`."""
        return await self._parts.places.logs.lines(await self._attempt(request))

    async def artifacts(self, run: str, *, job: str | None = None) -> list[StoredArtifact]:
        """See `Waist.artifacts`."""
        row, state = await self._load(run)
        if job is not None and job not in state.graph.index:
            raise _no_job(row, job, list(state.graph.index))
        return [
            StoredArtifact(
                known.spec.name,
                len(known.attempts),
                artifact,
                None if artifact.link is not None else self._parts.places.artifacts.path(artifact),
            )
            for known in state.jobs
            if job in (None, known.spec.name)
            for artifact in known.artifacts
        ]

    async def gc(self, *, keep_days: float, max_bytes: int, dry_run: bool = False) -> Swept:
        """See `Waist.gc`."""
        parts, now = self._parts, self._now()
        old: list[RunRow] = []
        unfinished: list[RunRow] = []
        before: int | None = None
        while page := await parts.store.list_runs(RunFilter(before=before, limit=PAGE)):
            before = page[-1].number
            unfinished += [row for row in page if row.ended_at is None]
            old += [row for row in page if row.ended_at is not None and row.ended_at < now - timedelta(days=keep_days)]
        attempts = await self._reap(dry_run)
        if dry_run:
            return Swept(runs=len(old), attempts=attempts)
        freed = 0
        for row in old:
            freed += await parts.places.logs.delete(row.id) + await parts.places.artifacts.delete(row.id)
        await parts.store.delete_runs([row.id for row in old])  # last: cut off before, all of it is done again
        in_use = [
            spec.source for row in unfinished if (spec := (await parts.store.load(row.id)).spec).source is not None
        ]
        freed += await parts.repositories.gc(keep_newer_than=now - KEEP_TREES, max_bytes=max_bytes, in_use=in_use)
        return Swept(runs=len(old), attempts=attempts, freed_bytes=freed)

    # ------------------------------------------------------------------------------------------------------ pieces

    def _now(self) -> datetime:
        return self._parts.places.clock.now()

    def _conductor_parts(self, drivers: dict[str, Driver], jobs: int | None, owns: Callable[[], bool]) -> Parts:
        count = jobs or self._parts.jobs  # the runs of one command share their slots
        return Parts(
            store=self._parts.store,
            drivers=drivers,
            trees=self,
            places=self._parts.places,
            slots=self._slots.setdefault(count, Slots(count)),
            attempts=self._parts.attempts,
            prepare_ahead=self._parts.prepare_ahead,
            owns=owns,
        )

    async def _store(
        self, request: RunRequest, specs: list[RunSpec], stored: Callable[[RunRow], None] | None
    ) -> list[RunRow]:
        rows = []
        for spec in specs:
            key = request.idempotency_key and f"{request.idempotency_key}/{spec.name}"
            row, _ = await self._parts.store.create_run(NewRun(spec, self._now(), request.by, key))
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

    async def _reap(self, dry_run: bool) -> int:
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
