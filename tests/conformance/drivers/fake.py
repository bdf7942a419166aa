"""The harness of the driver `fake`."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from stretto.core.ports import Driver, Launch
from stretto.core.spec import AttemptKey, JobSpec
from stretto.core.states import Reason, Status
from stretto.drivers.fake import FakeDriver, FakePlan, FakeWorld
from tests.conformance.drivers.harness import Keys, Work, job_of


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Come back after `seconds`."""
        await asyncio.sleep(seconds)


class FakeHarness:
    """A world whose plan is the work that the test asked for."""

    capabilities: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._keys = Keys(directory)
        self._works: dict[AttemptKey, Work] = {}
        self._world = FakeWorld(self._plan)

    def _plan(self, key: AttemptKey, job: JobSpec) -> FakePlan:
        work = self._works[key]
        return FakePlan(
            duration_s=math.inf if work.gated else 0.0,
            status=Status.FAILED if work.exit_code else Status.SUCCESS,
            exit_code=work.exit_code,
            reason=Reason.EXIT_CODE if work.exit_code else None,
            message=f"the script ended with exit code {work.exit_code}" if work.exit_code else None,
            output=work.output,
            ignores_term=work.ignores_term,
        )

    def driver(self) -> Driver:
        """Return a new driver over the world."""
        return FakeDriver(self._world, SystemClock())

    def launch(self, work: Work) -> Launch:
        """Return a launch whose plan is `work`."""
        key = self._keys.next()
        self._works[key] = work
        return Launch(key, job_of("fake", key, None), self._directory / key.name)

    def release(self, launch: Launch) -> None:
        """Let the work go on."""
        self._world.release(launch.key)

    def runs_of(self, launch: Launch) -> int:
        """Return how often the work ran."""
        return self._world.runs_of(launch.key)

    async def lose(self, launch: Launch) -> None:
        """Let the world forget the attempt."""
        self._world.lose(launch.key)

    def left(self, launch: Launch) -> list[str]:
        """Return the attempt's key if the world has it, and its files."""
        keys = [key for key in self._world.keys if key == launch.key.text]
        return keys + [str(launch.directory)] * launch.directory.exists()

    async def close(self) -> None:
        """Do nothing: the world is memory."""
