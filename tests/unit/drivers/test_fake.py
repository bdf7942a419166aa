"""The driver `fake`: plans, hitches, and that it lives on its clock alone."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stretto.core.errors import DriverError
from stretto.core.ports import Launch
from stretto.core.spec import AttemptKey, JobSpec
from stretto.core.states import Reason, Status
from stretto.drivers.fake import FakeDriver, FakePlan, FakeWorld, Hitch


class VirtualClock:
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self._now = datetime(2030, 1, 1, tzinfo=UTC)
        self._order = itertools.count()
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """Return the virtual time."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Come back when the time was moved that far."""
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + timedelta(seconds=seconds), next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move the time on and let everybody whose time has come run."""
        self._now += timedelta(seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
        for _ in range(10):
            await asyncio.sleep(0)


def launch(directory: Path = Path("/nowhere"), **params: object) -> Launch:
    """Return a launch of a job with these params."""
    return Launch(AttemptKey("run", "job", 1), JobSpec("job", "test", "fake", params=params), directory)


def world_of(plan: FakePlan) -> FakeWorld:
    """Return a world in which every attempt does the same."""
    plans: Callable[[AttemptKey, JobSpec], FakePlan] = lambda key, job: plan  # noqa: E731
    return FakeWorld(plans)


async def test_params_say_what_an_attempt_does() -> None:
    """Without a plan of the test's, duration, exit code and output come from the job."""
    clock = VirtualClock()
    driver = FakeDriver(FakeWorld(), clock)
    handle = await driver.start(launch(duration_s=60, exit_code=3, output="héllo"))
    waiting = asyncio.create_task(driver.wait(handle))
    await clock.advance(59)
    assert not waiting.done()
    await clock.advance(1)
    outcome = await waiting
    assert (outcome.status, outcome.exit_code, outcome.reason) == (Status.FAILED, 3, Reason.EXIT_CODE)
    assert outcome.started_at == datetime(2030, 1, 1, tzinfo=UTC)
    assert outcome.ended_at == clock.now()
    assert b"".join([chunk.data async for chunk in driver.logs(handle, 1)]) == "héllo".encode()[1:]


async def test_instant_attempt_makes_no_task_and_no_timer() -> None:
    """Start, wait, logs and remove of an attempt of no duration run through without ever giving way to the loop."""
    driver = FakeDriver(FakeWorld(), VirtualClock())

    async def whole() -> Status:
        handle = await driver.start(launch())
        outcome = await driver.wait(handle)
        assert [chunk async for chunk in driver.logs(handle, 0)] == []
        await driver.remove(handle)
        return outcome.status

    before = asyncio.all_tasks()
    with pytest.raises(StopIteration) as ended:
        whole().send(None)
    assert ended.value.value is Status.SUCCESS
    assert asyncio.all_tasks() == before


async def test_end_is_the_planned_time_however_late_one_asks() -> None:
    """An attempt that ended while nobody looked ended when it was to end."""
    clock = VirtualClock()
    driver = FakeDriver(world_of(FakePlan(duration_s=5)), clock)
    handle = await driver.start(launch())
    await clock.advance(100)
    outcome = await driver.wait(handle)
    assert outcome.ended_at == datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=5)


async def test_start_error_is_raised_and_nothing_runs() -> None:
    """A plan may refuse the start, every time."""
    error = DriverError("no such image", reason=Reason.IMAGE_MISSING)
    world = world_of(FakePlan(start_error=error))
    driver = FakeDriver(world, VirtualClock())
    for _ in range(2):
        with pytest.raises(DriverError, match="no such image"):
            await driver.start(launch())
    assert world.runs_of(launch().key) == 0
    assert await driver.find(launch().key, Path("/nowhere")) is None


async def test_hitch_after_start_leaves_the_work_done_and_the_caller_ignorant() -> None:
    """A start that fails after it took effect is adopted by the next, by a new driver over the same world."""
    crash = KeyboardInterrupt()
    world = world_of(FakePlan(hitches={"start": Hitch(error_after=crash)}))
    with pytest.raises(KeyboardInterrupt):
        await FakeDriver(world, VirtualClock()).start(launch())
    assert world.runs_of(launch().key) == 1
    driver = FakeDriver(world, VirtualClock())
    assert (await driver.wait(await driver.start(launch()))).status is Status.SUCCESS
    assert world.runs_of(launch().key) == 1


async def test_hitch_before_start_leaves_nothing_done() -> None:
    """A start that fails before it took effect has run nothing; after so many times it goes well."""
    error = DriverError("busy", reason=Reason.ENGINE_UNAVAILABLE)
    world = world_of(FakePlan(hitches={"start": Hitch(error_before=error, times=2)}))
    driver = FakeDriver(world, VirtualClock())
    for _ in range(2):
        with pytest.raises(DriverError, match="busy"):
            await driver.start(launch())
        assert world.runs_of(launch().key) == 0
    await driver.start(launch())
    assert world.runs_of(launch().key) == 1


async def test_hitch_delays_on_the_clock() -> None:
    """A delayed operation takes effect when the clock has moved on."""
    clock = VirtualClock()
    world = world_of(FakePlan(hitches={"start": Hitch(delay_before_s=2, delay_after_s=3)}))
    starting = asyncio.create_task(FakeDriver(world, clock).start(launch()))
    await clock.advance(0)
    await clock.advance(1)
    assert world.runs_of(launch().key) == 0
    await clock.advance(1)
    assert world.runs_of(launch().key) == 1
    assert not starting.done()
    await clock.advance(3)
    assert starting.done()
    await starting


async def test_stop_of_one_that_ignores_term_takes_the_grace_time() -> None:
    """Killed at the end of the grace time, unless it ends by itself before."""
    clock = VirtualClock()
    driver = FakeDriver(world_of(FakePlan(duration_s=math.inf, ignores_term=True)), clock)
    handle = await driver.start(launch())
    stopping = asyncio.create_task(driver.stop(handle, 10))
    await clock.advance(0)
    await clock.advance(9)
    assert not stopping.done()
    await clock.advance(1)
    await stopping
    assert (await driver.wait(handle)).exit_code == 137

    driver = FakeDriver(world_of(FakePlan(duration_s=4, ignores_term=True)), clock)
    handle = await driver.start(launch())
    stopping = asyncio.create_task(driver.stop(handle, 10))
    await clock.advance(0)
    await clock.advance(4)
    await stopping
    assert (await driver.wait(handle)).status is Status.SUCCESS


async def test_lost_attempt_wakes_who_waits() -> None:
    """An attempt that the world loses is `lost` for those who wait and those who come later."""
    world = world_of(FakePlan(duration_s=math.inf))
    driver = FakeDriver(world, VirtualClock())
    handle = await driver.start(launch())
    waiting = asyncio.create_task(driver.wait(handle))
    await asyncio.sleep(0)
    world.lose(launch().key)
    assert (await waiting).reason == Reason.LOST
    assert (await driver.wait(handle)).reason == Reason.LOST
    assert world.keys == ()


async def test_collect_lays_down_the_files_that_match(tmp_path: Path) -> None:
    """Planned files are real ones until the attempt is removed, and count against the limit."""
    place = tmp_path / "attempt"
    driver = FakeDriver(world_of(FakePlan(files={"out/a": b"12", "out/b": b"3", "c": b"4"})), VirtualClock())
    handle = await driver.start(launch(place))
    found = await driver.collect(handle, ["out"], 3)
    assert [(file.path, file.source.read_bytes()) for file in found] == [("out/a", b"12"), ("out/b", b"3")]
    with pytest.raises(DriverError, match="larger than 3 bytes"):
        await driver.collect(handle, ["*"], 3)
    await driver.remove(handle)
    assert not place.exists()
