"""Schedules under a clock of their own: each occurrence runs once, whoever looks and whoever dies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from stretto.core.errors import InputError, NotFoundError, StoreError
from stretto.core.ports import RunRow
from stretto.triggers.cron import next_after
from stretto.triggers.order import Order
from stretto.triggers.schedule import LOOK_S, RETRY_S, Schedule, Scheduler, ScheduleTable
from stretto.waist import RunRequest
from tests.unit.triggers.conftest import Base

ORDER = Order("https://git.example.com/acme/words", ("nightly",), variables={"FULL": "1"}, priority=-5)


async def make(base: Base, cron: str = "0 9 * * *", zone: str = "UTC", identity: str = "0" * 16) -> Schedule:
    """Store a schedule that was made now."""
    now = base.clock.now()
    schedule = Schedule(
        identity, cron, zone, ORDER, "main", next_after(cron, zone, now), created_by="ada", created_at=now
    )
    schedule.check()
    await ScheduleTable(base.store.tables).add(schedule, now=now)
    return schedule


def scheduler(base: Base) -> Scheduler:
    """Return one of the loops."""
    return Scheduler(base.store.tables, base.service.accept, base.clock)


class Ended(BaseException):
    """Ends a loop that goes on for ever."""


@dataclass
class SteppingClock:
    """The clock of `base` for a loop: `step` is called after each nap, and may raise Ended."""

    base: Base
    step: Callable[[], Awaitable[None]]

    def now(self) -> datetime:
        """Return the time of the base."""
        return self.base.clock.now()

    async def sleep(self, seconds: float) -> None:
        """Let the time pass, then make the step."""
        await self.base.clock.sleep(seconds)
        await self.step()


async def serve(base: Base, step: Callable[[], Awaitable[None]]) -> None:
    """Let a loop go on until a step ends it."""
    with pytest.raises(Ended):
        await Scheduler(base.store.tables, base.service.accept, SteppingClock(base, step)).serve()


async def test_schedule_runs_at_its_time_and_is_due_at_the_next(base: Base) -> None:
    """Not before, and then with all that it asks for."""
    schedule = await make(base)
    base.clock.at = schedule.next_at - timedelta(microseconds=1)
    assert await scheduler(base).fire_due() == 0
    base.clock.at = schedule.next_at
    assert await scheduler(base).fire_due() == 1
    (row,) = await base.runs()
    assert (row.name, row.repository, row.branch, row.by, row.priority) == (
        *("nightly", ORDER.repository, "main"),
        *(f"schedule/{schedule.id}", -5),
    )
    assert await ScheduleTable(base.store.tables).find(schedule.id) == replace(
        schedule, next_at=schedule.next_at + timedelta(days=1), last_at=schedule.next_at, last_runs=(row.id,)
    )
    assert await scheduler(base).fire_due() == 0


async def test_two_schedulers_run_each_occurrence_once(base: Base) -> None:
    """Both see it due, both accept it, one run is there, and one of them notes it."""
    schedule = await make(base)
    for _ in range(3):
        base.clock.at = (await ScheduleTable(base.store.tables).find(schedule.id)).next_at
        fired = await asyncio.gather(*(scheduler(base).fire_due() for _ in range(5)))
        assert sum(fired) == 1
    assert len(await base.runs()) == 3


async def test_occurrence_is_run_once_where_its_process_died_in_between(base: Base) -> None:
    """The run was stored and not noted: the next process gets the same run, and goes on."""
    schedule = await make(base)
    base.clock.at = schedule.next_at
    await scheduler(base).fire_due()
    (row,) = await base.runs()
    await ScheduleTable(base.store.tables).change(schedule)  # as it was before it was noted
    assert await scheduler(base).fire_due() == 1
    assert [it.id for it in await base.runs()] == [row.id]


async def test_occurrences_missed_while_nobody_looked_are_run_once(base: Base) -> None:
    """After a week away there is one run, and the next occurrence lies ahead."""
    schedule = await make(base)
    base.clock.at = schedule.next_at + timedelta(days=7, minutes=5)
    assert await scheduler(base).fire_due() == 1
    assert await scheduler(base).fire_due() == 0
    assert (await ScheduleTable(base.store.tables).find(schedule.id)).next_at == schedule.next_at + timedelta(days=8)
    assert len(await base.runs()) == 1


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        # 2:30 is jumped over on the 29th: due at 3:00, which is 1:00 UTC
        ((3, 28, 0), (3, 31, 0), ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        # 2:30 comes twice on the 25th: due the first time, at 0:30 UTC
        ((10, 24, 0), (10, 27, 0), ["10-24 00:30", "10-25 00:30", "10-26 01:30"]),
    ],
)
async def test_loop_runs_every_night_when_the_clocks_change(
    base: Base, start: tuple[int, int, int], end: tuple[int, int, int], expected: list[str]
) -> None:
    """Three nights in Berlin, three runs, in spring and in autumn."""
    base.clock.at = datetime(2026, *start, tzinfo=UTC)
    await make(base, "30 2 * * *", "Europe/Berlin")

    async def step() -> None:
        if base.clock.now() > datetime(2026, *end, tzinfo=UTC):
            raise Ended

    await serve(base, step)
    assert max(base.clock.slept) <= LOOK_S
    keys = await base.store.tables.read("SELECT idempotency_key FROM run ORDER BY number")
    fired = [datetime.fromtimestamp(int(key.split("/")[2]), UTC).strftime("%m-%d %H:%M") for (key,) in keys]
    assert fired == expected


async def test_loop_sees_what_another_process_makes(base: Base) -> None:
    """A schedule that is made while the loop sleeps is run within a look of its time."""
    made: list[Schedule] = []

    async def step() -> None:
        if len(base.clock.slept) == 2:
            made.append(await make(base, "* * * * *"))
        if await base.runs():
            raise Ended

    await serve(base, step)
    (noted,) = await ScheduleTable(base.store.tables).read_all()
    assert noted.last_at == made[0].next_at
    assert base.clock.now() - made[0].next_at <= timedelta(seconds=2 * LOOK_S), "the nap after it included"


async def test_schedule_that_is_disabled_or_deleted_is_not_run(base: Base) -> None:
    """Neither one that is due already."""
    table = ScheduleTable(base.store.tables)
    off, gone = await make(base, identity="a" * 16), await make(base, identity="b" * 16)
    await table.change(replace(off, enabled=False))
    await table.delete(gone.id)
    base.clock.at = off.next_at
    assert await scheduler(base).fire_due() == 0
    assert await table.read_all() == [replace(off, enabled=False)]
    with pytest.raises(NotFoundError):
        await table.find(gone.id)
    with pytest.raises(NotFoundError):
        await table.find("\x00")


async def test_schedule_that_can_not_be_run_stays_due_and_keeps_no_other_from_running(base: Base) -> None:
    """What the store refuses is tried again; the others run."""
    bad, good = await make(base, identity="a" * 16), await make(base, identity="b" * 16)

    async def accept(request: RunRequest) -> list[tuple[RunRow, bool]]:
        if request.by == f"schedule/{bad.id}":
            raise StoreError("not now")
        return await base.service.accept(request)

    base.clock.at = bad.next_at
    assert await Scheduler(base.store.tables, accept, base.clock).fire_due() == 1
    assert [row.by for row in await base.runs()] == [f"schedule/{good.id}"]
    assert await scheduler(base).fire_due() == 1
    assert len(await base.runs()) == 2


async def test_loop_goes_on_after_the_store_failed(base: Base) -> None:
    """A store that is away is asked again after a while."""
    await base.store.close()

    async def step() -> None:
        if len(base.clock.slept) == 3:
            raise Ended

    await serve(base, step)
    assert base.clock.slept == [RETRY_S] * 3


@pytest.mark.parametrize(
    "change",
    [
        lambda it: replace(it, branch=""),
        lambda it: replace(it, branch="a\nb"),
        lambda it: replace(it, order=Order("x")),
    ],
)
async def test_schedule_that_can_not_work_is_refused(base: Base, change: Callable[[Schedule], Schedule]) -> None:
    """When it is made, not when it is due."""
    with pytest.raises(InputError):
        change(await make(base)).check()
