"""Cleaning up behind a conductor that died: what is still out there for a run, and has no business to be."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from stretto.core.errors import DriverError, StrettoError
from stretto.core.events import Event, Handle
from stretto.core.ports import Driver
from stretto.core.run import Run
from stretto.core.spec import AttemptKey, RunSpec

log = logging.getLogger(__name__)


def replay(run_id: str, spec: RunSpec, events: tuple[Event, ...]) -> Run:
    """Return the run that these events made of the spec, with nothing marked as changed."""
    run = Run(run_id, spec)
    for event in events:
        run.apply(event)
    run.take_changes()
    return run


async def sweep(run: Run, drivers: Mapping[str, Driver], attempts: Path) -> int:
    """Remove whatever bears a key of the run but belongs to no attempt under way; return how many things that were.

    To be called before the run's conductor acts: something being started would look like an orphan.
    """
    under_way = {run.key(run.jobs[i]).text for i in run.running}
    left: dict[str, tuple[Driver, Handle]] = {}
    for driver in {run_driver for job in run.spec.jobs if (run_driver := drivers.get(job.driver)) is not None}:
        try:
            for handle in await driver.orphans():
                if AttemptKey.parse(handle.key).run_id == run.id and handle.key not in under_way:
                    left[handle.key] = (driver, handle)
        except StrettoError as error:
            log.warning("orphans not listed; gc will look again", extra={"driver": driver.name, "error": error.message})
    for key, driver_name in _keys(run):
        directory = attempts / key.name
        if key.text in under_way or key.text in left or driver_name not in drivers:
            continue
        if directory.exists():
            left[key.text] = (drivers[driver_name], Handle(driver_name, key.text, {"directory": str(directory)}))
    for driver, handle in left.values():
        try:
            await driver.remove(handle)
        except (StrettoError, OSError) as error:
            log.warning("orphan not removed; gc will try again", extra={"attempt": handle.key, "error": str(error)})
    return len(left)


async def reap(driver: Driver, is_over: Callable[[str], Awaitable[bool]], *, dry_run: bool = False) -> int:
    """Remove what the driver has of runs that are over or unknown, as `is_over` says of a run's id; return how many.

    One that can't be removed is passed over, and found again next time.
    """
    count = 0
    for handle in await driver.orphans():
        if not await is_over(AttemptKey.parse(handle.key).run_id):
            continue
        try:
            if not dry_run:
                await driver.remove(handle)
        except (DriverError, OSError) as error:
            log.warning("orphan not removed; it is tried again", extra={"attempt": handle.key, "error": str(error)})
        else:
            count += 1
    return count


def _keys(run: Run) -> list[tuple[AttemptKey, str]]:
    """Return the keys of every attempt that was made or may have been made ready."""
    return [
        (AttemptKey(run.id, job.spec.name, number), job.spec.driver)
        for job in run.jobs
        for number in range(1, len(job.attempts) + 2)
    ]
