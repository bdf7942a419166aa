"""Schedules: what is run at which times, on record, and the loop that runs it.

Any number of processes may loop over one store: each occurrence has a key, so that it starts its runs once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from stretto.core.errors import NotFoundError, StrettoError
from stretto.core.ports import Clock, Tables
from stretto.triggers.cron import next_after
from stretto.triggers.order import (
    Accept,
    Order,
    check_texts,
    from_text,
    is_identity,
    micros,
    moment,
    read_order,
    to_text,
)

log = logging.getLogger(__name__)

LOOK_S: Final = 15.0
"""How often schedules are looked through at least: other processes make and change them."""
RETRY_S: Final = 5.0
"""How long to wait after the store failed."""
PAGE: Final = 100

_COLUMNS: Final = (
    "id, cron, zone, branch, enabled, created_by, created_at, next_at, last_at, last_runs, "
    "repository, pipelines, file, variables, driver, priority"
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """What runs when. `last_at` is the occurrence that started `last_runs` (ids), None before the first.

    Of the occurrences that were missed, with no process there to see them, the oldest is run, once, and the others are not.
    """

    id: str
    cron: str
    zone: str
    order: Order
    branch: str | None
    next_at: datetime
    enabled: bool = True
    created_by: str = ""
    created_at: datetime | None = None
    last_at: datetime | None = None
    last_runs: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse a schedule that can't work; InputError. `cron` and `zone` are checked where `next_at` is made."""
        self.order.check()
        check_texts("branch", [] if self.branch is None else [self.branch])


class ScheduleTable:
    """The schedules of a store."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def add(self, schedule: Schedule, *, now: datetime) -> None:
        """Store a new schedule that was checked."""
        values = _values(replace(schedule, created_at=now))
        await self._tables.write((f"INSERT INTO schedule ({_COLUMNS}) VALUES ({', '.join('?' * len(values))})", values))

    async def read_all(self) -> list[Schedule]:
        """Return all schedules, oldest first."""
        sql = f"SELECT {_COLUMNS} FROM schedule ORDER BY created_at, id"
        return [_read(row) for row in await self._tables.read(sql)]

    async def find(self, schedule_id: str) -> Schedule:
        """Return the schedule; NotFoundError."""
        sql = f"SELECT {_COLUMNS} FROM schedule WHERE id = ?"
        rows = await self._tables.read(sql, schedule_id) if is_identity(schedule_id) else []
        if not rows:
            raise NotFoundError(f"there is no schedule {schedule_id!r}")
        return _read(rows[0])

    async def change(self, schedule: Schedule) -> None:
        """Store what a person may change of it, and when it is due next."""
        sql = (
            "UPDATE schedule SET cron = ?, zone = ?, branch = ?, enabled = ?, next_at = ?, "
            "pipelines = ?, file = ?, variables = ?, driver = ?, priority = ? WHERE id = ?"
        )
        it = schedule
        values = (it.cron, it.zone, it.branch, int(it.enabled), micros(it.next_at), *it.order.values(), it.id)
        await self._tables.write((sql, values))

    async def delete(self, schedule_id: str) -> None:
        """Delete the schedule; NotFoundError."""
        await self.find(schedule_id)
        await self._tables.write(("DELETE FROM schedule WHERE id = ?", (schedule_id,)))

    async def due(self, now: datetime) -> list[Schedule]:
        """Return some of the schedules that are due, oldest first."""
        sql = f"SELECT {_COLUMNS} FROM schedule WHERE enabled = 1 AND next_at <= ? ORDER BY next_at, id LIMIT {PAGE}"
        return [_read(row) for row in await self._tables.read(sql, micros(now))]

    async def next_at(self) -> datetime | None:
        """Return when the next one is due."""
        ((value,),) = await self._tables.read("SELECT min(next_at) FROM schedule WHERE enabled = 1")
        return None if value is None else moment(value)

    async def advance(self, fired: Schedule, *, next_at: datetime, runs: tuple[str, ...]) -> bool:
        """Note what an occurrence started; False, and nothing is changed, where another process has or a person changed it."""
        sql = "UPDATE schedule SET next_at = ?, last_at = ?, last_runs = ? WHERE id = ? AND next_at = ? RETURNING id"
        at = micros(fired.next_at)
        (rows,) = await self._tables.write((sql, (micros(next_at), at, to_text(runs), fired.id, at)))
        return bool(rows)


class Scheduler:
    """Runs what is due. One in each process that serves an API or conducts; `serve` goes on until it is cancelled."""

    def __init__(self, tables: Tables, accept: Accept, clock: Clock) -> None:
        self._schedules = ScheduleTable(tables)
        self._accept = accept
        self._clock = clock

    async def serve(self) -> None:
        """Run what is due, for ever. A store that fails is asked again."""
        while True:
            try:
                await self.fire_due()
                await self._clock.sleep(await self._pause_s())
            except Exception:
                log.warning("schedules could not be looked through", exc_info=True)
                await self._clock.sleep(RETRY_S)

    async def fire_due(self) -> int:
        """Run what is due now; return how many occurrences this process was the first to note.

        One that fails stays due, and keeps none of the others from running.
        """
        now = self._clock.now()
        fired = 0
        for schedule in await self._schedules.due(now):
            try:
                fired += await self._fire(schedule, now)
            except StrettoError as error:
                log.error("schedule could not be run", extra={"schedule": schedule.id, "error": error.message})
        return fired

    async def _fire(self, schedule: Schedule, now: datetime) -> bool:
        """Accept first: where this process dies before it is noted, the next one gets the same runs by the key."""
        occurrence = int(schedule.next_at.timestamp())
        by = f"schedule/{schedule.id}"
        request = schedule.order.request(branch=schedule.branch, commit=None, key=f"{by}/{occurrence}", by=by)
        accepted = await self._accept(request)
        following = next_after(schedule.cron, schedule.zone, max(now, schedule.next_at))
        first = await self._schedules.advance(schedule, next_at=following, runs=tuple(row.id for row, _ in accepted))
        if first:
            late_s = (now - schedule.next_at) // timedelta(seconds=1)
            log.info("schedule fired", extra={"schedule": schedule.id, "runs": len(accepted), "late_s": late_s})
        return first

    async def _pause_s(self) -> float:
        next_at = await self._schedules.next_at()
        if next_at is None:
            return LOOK_S
        # Not below a second: a schedule that can't be run stays due.
        return min(max((next_at - self._clock.now()).total_seconds(), 1.0), LOOK_S)


def _values(it: Schedule) -> tuple[Any, ...]:
    assert it.created_at is not None
    last_at = None if it.last_at is None else micros(it.last_at)
    return (
        *(it.id, it.cron, it.zone, it.branch, int(it.enabled), it.created_by, micros(it.created_at)),
        *(micros(it.next_at), last_at, to_text(it.last_runs), it.order.repository, *it.order.values()),
    )


def _read(row: tuple[Any, ...]) -> Schedule:
    id_, cron, zone, branch, enabled, by, created_at, next_at, last_at, last_runs, *order = row
    return Schedule(
        id=id_,
        cron=cron,
        zone=zone,
        order=read_order(*order),
        branch=branch,
        next_at=moment(next_at),
        enabled=bool(enabled),
        created_by=by,
        created_at=moment(created_at),
        last_at=None if last_at is None else moment(last_at),
        last_runs=from_text(last_runs),
    )
