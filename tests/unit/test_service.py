"""The service over a real store and fake jobs: doing runs again, servers' cancels, what is accepted before it is compiled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stretto.core import events as ev
from stretto.core.errors import InputError, NotFoundError, SourceError
from stretto.core.ports import NewRun, RunRow
from stretto.core.run import Run
from stretto.core.spec import AttemptKey, JobSpec, Need, RetryPolicy, RunSpec, When
from stretto.core.states import Status
from stretto.drivers.fake import FakeDriver, FakePlan, FakeWorld
from stretto.engine.attempt import Places
from stretto.engine.slots import Slots
from stretto.engine.worker import Terms, Worker
from stretto.reports.model import Kept
from stretto.service import Service, ServiceParts
from stretto.store.artifacts import FileArtifacts
from stretto.store.blobs import FileBlobs
from stretto.store.logs import FileLogs
from stretto.store.sqlite import SqliteStore
from stretto.store.uploads import Uploads
from stretto.waist import LogRequest, RunRequest

BEGIN = datetime.fromisoformat("2026-03-04T05:06:07+00:00")


@dataclass(slots=True)
class Calendar:
    """A clock that tells the day it is set to."""

    day: int = 0

    def now(self) -> datetime:
        return BEGIN + timedelta(days=self.day)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@dataclass(slots=True)
class Book:
    """Stands for all repositories: says what a reference comes to, a failure or a crash included."""

    known: dict[str | None, Any] = field(default_factory=dict)
    forgotten: int = 0

    async def resolve(self, reference: str | None, **_: Any) -> Any:
        found = self.known[reference]
        if isinstance(found, BaseException):
            raise found
        return found

    async def forget(self, source: Any) -> None:
        self.forgotten += 1

    async def checkout(self, run: Any) -> None:
        return None

    async def gc(self, **_: Any) -> int:
        return 0


@dataclass(slots=True)
class House:
    """A service and what it stands on. `codes` are the exit codes of the jobs by name, one after the other."""

    service: Service
    store: SqliteStore
    world: FakeWorld
    clock: Calendar
    codes: dict[str, list[int]]
    book: Book

    async def submit(self, spec: RunSpec) -> RunRow:
        return (await self.store.create_run(NewRun(spec, self.clock.now(), "ada", priority=4)))[0]

    async def statuses(self, run: str) -> dict[str, str]:
        return {job.name: str(job.status) for _, job in (await self.service.report(run)).jobs()}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A service over an empty store; its driver knows fake jobs only."""
    codes: dict[str, list[int]] = {}

    def plan(key, job) -> FakePlan:
        code = codes[job.name].pop(0) if codes.get(job.name) else 0
        status = Status.FAILED if code else Status.SUCCESS
        files = {f"out/{job.name}": key.run_id.encode()}
        return FakePlan(0, status, code, "exit_code" if code else None, output=key.text.encode(), files=files)

    clock, world, book = Calendar(), FakeWorld(plan), Book()
    driver = FakeDriver(world, clock)
    store = await SqliteStore.open(tmp_path / "stretto.db")
    parts = ServiceParts(
        store=store,
        repositories=book,
        driver=lambda name: driver,
        driver_names=("fake",),
        default_driver="fake",
        places=Places(FileLogs(tmp_path / "logs"), FileArtifacts(tmp_path / "artifacts"), clock, 1 << 20, 1.0),
        attempts=tmp_path / "attempts",
        keep_days=30.0,
        keep_bytes=1 << 30,
        jobs=4,
        prepare_ahead=0,
        owner="tests",
        uploads=Uploads(store.tables, FileBlobs(tmp_path / "uploads", store.tables)),
        upload_limit_bytes=0,
        place="here",
    )
    yield House(Service(parts), store, world, clock, codes, book)
    await store.close()


def chain(*names: str, **fields: Any) -> RunSpec:
    """Return a pipeline of jobs that leave artifacts, each after the one before."""
    jobs = [
        JobSpec(name, "all", "fake", needs=(Need(before),) if before else (), artifacts=("out/**",), **fields)
        for before, name in zip(("", *names), names, strict=False)
    ]
    return RunSpec("pipeline", "chain", ("all",), tuple(jobs))


# ------------------------------------------------------------------------------------------------------- doing it again


async def test_retry_keeps_what_succeeded(house: House) -> None:
    """Only what failed and what comes after it runs again; what was kept says from where, and has its artifacts and log."""
    house.codes["b"] = [1]
    first = await house.submit(chain("a", "b", "c"))
    await house.service.conduct("1")
    row = await house.service.retry("1", by="bob")
    assert (row.number, row.retry_of, row.by, row.priority, row.status) == (2, 1, "bob", 4, Status.PENDING)
    assert await house.statuses("2") == {"a": "success", "b": "pending", "c": "pending"}
    report = await house.service.conduct("2")
    assert report.run.status is Status.SUCCESS
    assert report.run.retry_of == 1
    a, b, c = (job for _, job in report.jobs())
    assert (a.kept_from, a.attempts, a.reason) == (Kept(1, first.id, 1), (), None)
    assert (b.kept_from, len(b.attempts), len(c.attempts)) == (None, 1, 1)
    assert house.world.runs_of(f"{row.id}/a/1") == 0
    found = {stored.job: stored for stored in await house.service.artifacts("2")}
    data = b"".join([part async for part in house.service.artifact_data(found["a"])])
    assert (data.decode(), found["a"].attempt) == (first.id, 1)
    log = b"".join([part async for part in house.service.logs(LogRequest("2", "a"))])
    assert log.decode() == f"{first.id}/a/1"


async def test_retry_of_a_retry_names_the_run_that_did_the_work(house: House) -> None:
    """What is kept over several runs is from the attempt that ran, not from the run in between."""
    house.codes["b"] = [1, 1]
    first = await house.submit(chain("a", "b"))
    await house.service.conduct("1")
    await house.service.retry("1")
    await house.service.conduct("2")
    await house.service.retry("2")
    report = await house.service.conduct("3")
    assert report.run.retry_of == 2
    assert next(report.jobs())[1].kept_from == Kept(1, first.id, 1)
    assert [str(job.status) for _, job in report.jobs()] == ["success", "success"]


async def test_retry_of_everything_keeps_nothing(house: House) -> None:
    """Asked to, it runs all jobs again, also of a run that succeeded."""
    await house.submit(chain("a", "b"))
    await house.service.conduct("1")
    row = await house.service.retry("1", failed_only=False)
    report = await house.service.conduct("2")
    assert row.retry_of == 1
    assert [len(job.attempts) for _, job in report.jobs()] == [1, 1]


async def test_retry_is_refused_clearly(house: House) -> None:
    """A run that is not over, one without failures, and one that is not there, can't be done again; nothing is stored."""
    await house.submit(chain("a"))
    with pytest.raises(InputError, match="run 1 is pending"):
        await house.service.retry("1")
    await house.service.conduct("1")
    with pytest.raises(InputError, match="nothing to do again") as caught:
        await house.service.retry("1")
    assert "--all" in (caught.value.hint or "")
    with pytest.raises(NotFoundError):
        await house.service.retry("7")
    assert (await house.store.find_run("1")).number == 1
    with pytest.raises(NotFoundError):
        await house.store.find_run("2")


async def test_retry_runs_again_what_looked_at_new_results(house: House) -> None:
    """A job that always runs after one that is done again is done again too, and so is what needs it."""
    jobs = (
        JobSpec("build", "one", "fake"),
        JobSpec("test", "two", "fake"),
        JobSpec("tidy", "three", "fake", when=When.ALWAYS),
        JobSpec("lint", "one", "fake", needs=(), when=When.ALWAYS),
        JobSpec("tell", "three", "fake", needs=(Need("tidy"),), when=When.ALWAYS),
    )
    house.codes["test"] = [1]
    await house.submit(RunSpec("pipeline", "p", ("one", "two", "three"), jobs))
    await house.service.conduct("1")
    await house.service.retry("1")
    assert await house.statuses("2") == {
        "build": "success", "test": "pending", "tidy": "pending", "lint": "success", "tell": "pending",
    }  # fmt: skip
    assert (await house.service.conduct("2")).run.status is Status.SUCCESS


async def test_retry_does_not_deploy_again_for_a_failure_that_was_allowed(house: House) -> None:
    """What succeeded after a failure that was allowed is kept, though the failed job runs again."""
    jobs = (
        JobSpec("lint", "one", "fake", allow_failure=True),
        JobSpec("deploy", "two", "fake"),
        JobSpec("smoke", "three", "fake"),
    )
    house.codes |= {"lint": [1], "smoke": [1]}
    await house.submit(RunSpec("pipeline", "p", ("one", "two", "three"), jobs))
    await house.service.conduct("1")
    await house.service.retry("1")
    assert await house.statuses("2") == {"lint": "pending", "deploy": "success", "smoke": "pending"}
    report = await house.service.conduct("2")
    assert [len(job.attempts) for _, job in report.jobs()] == [1, 0, 1]


async def test_gc_leaves_a_run_as_long_as_its_jobs_are_kept_in_another(house: House) -> None:
    """The old run stays with artifacts and logs while a run that kept jobs of it does; then both go."""
    house.codes["b"] = [1]
    first = await house.submit(chain("a", "b"))
    await house.service.conduct("1")
    house.clock.day = 20
    await house.service.retry("1")
    await house.service.conduct("2")
    house.clock.day = 40
    assert (await house.service.gc(keep_days=30, max_bytes=0)).runs == 0
    (kept, *_) = await house.service.artifacts("2", job="a")
    assert kept.path is not None
    assert kept.path.read_text() == first.id
    house.clock.day = 60
    assert (await house.service.gc(keep_days=30, max_bytes=0)).runs == 2
    assert not kept.path.exists()


# ---------------------------------------------------------------------------------------------------------------- places


@pytest.mark.parametrize("retries", [0, 1])
async def test_attempt_at_a_place_that_is_gone_is_lost(house: House, retries: int, tmp_path: Path) -> None:
    """A run taken from a place of which nothing is heard: its attempt is lost, tried again if it may, and nothing is touched."""
    job = JobSpec("a", "all", "fake", retry=RetryPolicy(retries, backoff_s=0.0))
    row = await house.submit(RunSpec("pipeline", "p", ("all",), (job,)))
    claim = await house.store.claim(row.id, "gone", "north")
    run = Run(row.id, (await house.store.load(row.id)).spec)
    run.apply(ev.RunSubmitted(BEGIN, "ada"))
    events = [ev.RunStarted(BEGIN), ev.AttemptStarting(BEGIN, "a", 1, "north")]
    for event in events:
        run.apply(event)
    await house.store.commit(claim, events, run.take_changes())
    await house.store.release(claim)
    directory = tmp_path / "attempts" / AttemptKey(row.id, "a", 1).name
    directory.mkdir(parents=True)
    report = await house.service.conduct("1")
    ((_, done),) = report.jobs()
    assert (done.attempts[0].status, done.attempts[0].reason) == (Status.FAILED, "lost")
    assert "north" in (done.attempts[0].message or "")
    assert [attempt.status for attempt in done.attempts[1:]] == [Status.SUCCESS] * retries
    assert house.world.runs_of(f"{row.id}/a/1") == 0
    assert directory.exists()
    starts = [event for event in (await house.store.load(row.id)).events if isinstance(event, ev.AttemptStarting)]
    assert [start.place for start in starts] == ["north", "here"][: 1 + retries]


# ------------------------------------------------------------------------------------------------------------- accepting


def worker_of(house: House, **terms: Any) -> Worker:
    return Worker(house.service.means, Slots(4), Terms("here", **terms), owner="worker", reap=house.service.reap)


async def until_over(house: House, row: RunRow) -> RunRow:
    async with asyncio.timeout(20):
        async for _ in house.service.watch(row.id):
            pass
    return await house.store.find_run(row.id)


async def test_worker_ends_what_cannot_be_compiled(house: House) -> None:
    """Bad input, a repository that can't be had, and a crash each end the run with a reason of their own and a message."""
    house.book.known = {
        "bad": InputError("pipeline.yml has two faults"),
        "gone": SourceError("no such repository"),
        "bug": ZeroDivisionError("oops"),
    }
    worker = worker_of(house)
    working = asyncio.create_task(worker.run())
    accepted = [(await house.service.accept(RunRequest(name)))[0][0] for name in ("bad", "gone", "bug")]
    ended = [await until_over(house, row) for row in accepted]
    assert [(row.status, row.reason) for row in ended] == [
        (Status.FAILED, "bad_definition"), (Status.FAILED, "source_failed"), (Status.FAILED, "engine_fault"),
    ]  # fmt: skip
    assert [row.message for row in ended] == [
        "pipeline.yml has two faults",
        "no such repository",
        "to compile it brought the conductor down 3 times",
    ]
    house.book.known["gone"] = SourceError("still no such repository")
    again = await house.service.retry("2", by="bob")
    assert (again.retry_of, again.by) == (2, "bob")
    assert (await until_over(house, again)).message == "still no such repository"
    await worker.drain()
    await working


async def test_server_refuses_a_request_without_repository(house: House) -> None:
    """What names no repository would mean the directory that the server happens to run in."""
    worker = worker_of(house)
    working = asyncio.create_task(worker.run())
    ((row, _),) = await house.service.accept(RunRequest())
    assert (await until_over(house, row)).reason == "bad_definition"
    await worker.drain()
    await working


async def test_cancel_on_a_server_is_only_a_request(house: House) -> None:
    """The service leaves the wish, and the run as it is; whoever conducts it acts on it, though it has no spec yet."""
    service = Service(replace(house.service._parts, serves=True))
    ((row, _),) = await service.accept(RunRequest("anywhere"))
    assert (await service.cancel("1", by="ada")).status is Status.PENDING
    assert (await service.cancel("1", job="not known yet")).status is Status.PENDING
    worker = worker_of(house, undefined=False)  # it need not want it to end it
    working = asyncio.create_task(worker.run())
    ended = await until_over(house, row)
    assert (ended.status, ended.reason) == (Status.CANCELED, "cancel_requested")
    assert await house.store.read_requests(row.id) == []
    await worker.drain()
    await working


async def test_take_returns_when_the_run_is_defined_or_over(house: House) -> None:
    """A queue's message is done with when the run is defined, over, or another's; a drained worker takes nothing."""
    house.book.known["bad"] = InputError("faults")
    ((row, _),) = await house.service.accept(RunRequest("bad"))
    worker = worker_of(house, undefined=False)
    working = asyncio.create_task(worker.run())
    await asyncio.sleep(0.1)
    assert (await house.store.find_run(row.id)).status is Status.PENDING
    async with asyncio.timeout(10):
        await worker.take(row.id)
        assert (await house.store.find_run(row.id)).reason == "bad_definition"
        await worker.take(row.id)
        with pytest.raises(NotFoundError):
            await worker.take("nope")
        ((other, _),) = await house.service.accept(RunRequest("bad"))
        await house.store.keep_lease("another", 60)
        claim = await house.store.claim(other.id, "another")
        await worker.take(other.id)
        assert (await house.store.find_run(other.id)).status is Status.PENDING
        await house.store.release(claim)
    await worker.drain()
    await working
    with pytest.raises(Exception, match="claims nothing"):
        await worker.take(other.id)


async def test_conduct_compiles_what_was_accepted(house: House) -> None:
    """A command may carry on a run that a server accepted and nobody took up."""
    house.book.known["bad"] = InputError("faults")
    await house.service.accept(RunRequest("bad", by="ada"))
    report = await house.service.conduct("1")
    assert (report.run.status, report.run.reason, report.run.message) == (Status.FAILED, "bad_definition", "faults")
