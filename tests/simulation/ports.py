"""Stand-ins for the world around the engine: a disk in memory, and a mortal process that uses it.

What is on the `Disk` and in the `FakeWorld` survives; everything else belongs to one incarnation of the orchestrator and dies
with it. Each operation on a port is two steps of the incarnation's life, before and after it takes effect; it may end at either.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from stretto.core import events as ev
from stretto.core.errors import FenceLostError
from stretto.core.ports import (
    ArtifactFile,
    Claim,
    Driver,
    Launch,
    LogChunk,
    Request,
)
from stretto.core.run import Changes, Run
from stretto.core.spec import AttemptKey


@dataclass(slots=True)
class Disk:
    """What survives: the events of one run, its fence and its requests."""

    events: list[ev.Event] = field(default_factory=list)
    fence: int = 0
    requests: dict[int, Request] = field(default_factory=dict)
    logs: dict[str, bytes] = field(default_factory=dict)
    on_commit: Callable[[Sequence[ev.Event]], None] = lambda events: None


class Life:
    """One incarnation. `steps_left` steps from now it dies: its current and all later operations never return."""

    def __init__(self, random: Random, steps_left: int | None) -> None:
        self.random = random
        self.steps_left = steps_left
        self.dead = asyncio.Event()
        self.lease_is_lost = False

    def stand_up(self) -> None:
        """Go on after standing still for longer than the lease; the operation it stood still in never returns."""
        self.dead, self.steps_left, self.lease_is_lost = asyncio.Event(), None, True

    async def step(self) -> None:
        """Live on for a moment, or die."""
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                self.dead.set()
        if self.dead.is_set():
            await asyncio.get_running_loop().create_future()
        if self.random.random() < 0.3:
            await asyncio.sleep(self.random.choice((0.0, 0.001, 0.02, 0.5)))


class MortalStore:
    """The part of `core.ports.Store` that a conductor uses, over a disk, until its life ends."""

    def __init__(self, disk: Disk, life: Life) -> None:
        self.disk = disk
        self.life = life

    async def commit(
        self, claim: Claim, events: Sequence[ev.Event], changes: Changes, settled: Iterable[int] = ()
    ) -> None:
        """Write to the disk, all or nothing, if the claim is the newest."""
        await self.life.step()
        if claim.fence != self.disk.fence:
            raise FenceLostError("taken over")
        self.disk.events.extend(events)
        for number in settled:
            self.disk.requests.pop(number, None)
        self.disk.on_commit(events)
        await self.life.step()

    async def read_requests(self, run_id: str) -> list[Request]:
        """Return what is asked of the run."""
        await self.life.step()
        return list(self.disk.requests.values())

    async def wait_for_change(self, timeout_s: float) -> bool:
        """Wait a little; the disk may have changed."""
        await asyncio.sleep(min(timeout_s, 0.7))
        await self.life.step()
        return True


class MortalDriver:
    """A driver that does nothing any more once the orchestrator's life is over."""

    prepares = True

    def __init__(self, driver: Driver, life: Life) -> None:
        self.name = driver.name
        self._driver = driver
        self._life = life

    async def _do(self, operation: Callable[..., Any], *args: Any) -> Any:
        await self._life.step()
        result = await operation(*args)
        await self._life.step()
        return result

    async def prepare(self, launch: Launch) -> None:
        """As the driver."""
        await self._do(self._driver.prepare, launch)

    async def start(self, launch: Launch) -> ev.Handle:
        """As the driver."""
        handle: ev.Handle = await self._do(self._driver.start, launch)
        return handle

    async def find(self, key: AttemptKey, directory: Path) -> ev.Handle | None:
        """As the driver."""
        handle: ev.Handle | None = await self._do(self._driver.find, key, directory)
        return handle

    async def wait(self, handle: ev.Handle) -> ev.Outcome:
        """As the driver."""
        outcome: ev.Outcome = await self._do(self._driver.wait, handle)
        return outcome

    async def logs(self, handle: ev.Handle, position: int) -> AsyncIterator[LogChunk]:
        """As the driver."""
        await self._life.step()
        async for chunk in self._driver.logs(handle, position):
            await self._life.step()
            yield chunk

    async def stop(self, handle: ev.Handle, grace_s: float) -> None:
        """As the driver."""
        await self._do(self._driver.stop, handle, grace_s)

    async def collect(self, handle: ev.Handle, patterns: Sequence[str], limit_bytes: int) -> Sequence[ArtifactFile]:
        """As the driver."""
        files: Sequence[ArtifactFile] = await self._do(self._driver.collect, handle, patterns, limit_bytes)
        return files

    async def remove(self, handle: ev.Handle) -> None:
        """As the driver."""
        await self._do(self._driver.remove, handle)

    async def orphans(self) -> Sequence[ev.Handle]:
        """As the driver."""
        handles: Sequence[ev.Handle] = await self._do(self._driver.orphans)
        return handles

    async def close(self) -> None:
        """As the driver."""


class MortalLogs:
    """Logs on the disk: bytes by key, with the driver's position equal to the length."""

    def __init__(self, disk: Disk, life: Life) -> None:
        self.disk = disk
        self.life = life

    async def open(self, key: AttemptKey) -> _Writer:
        """Go on where the disk stands."""
        await self.life.step()
        return _Writer(self, key.text)


class _Writer:
    def __init__(self, logs: MortalLogs, key: str) -> None:
        self._logs = logs
        self._key = key
        self.position = len(logs.disk.logs.get(key, b""))

    async def append(self, chunk: LogChunk) -> None:
        await self._logs.life.step()
        known = self._logs.disk.logs.get(self._key, b"")
        start = chunk.position - len(chunk.data)
        assert start == self.position, "the writer was given a gap or a repetition"
        self._logs.disk.logs[self._key] = known[:start] + chunk.data + known[chunk.position :]
        self.position = chunk.position

    async def close(self, *, complete: bool = True) -> None:
        """Nothing to do in memory."""


class NoArtifacts:
    """An artifact store for jobs that leave nothing."""

    async def add(self, key: AttemptKey, files: Sequence[ArtifactFile]) -> tuple[ev.Artifact, ...]:
        """Take nothing."""
        assert not files
        return ()

    async def layer(self, key: AttemptKey, artifacts: Sequence[ev.Artifact]) -> Path:
        """Never asked for: there are no artifacts."""
        raise AssertionError(key)


class NoTrees:
    """For runs without a source."""

    async def checkout(self, run: Run) -> Path | None:
        """There is none."""
        return None
