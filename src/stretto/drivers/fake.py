"""Attempts that happen in memory: for the simulation, for tests of the engine, and for measuring it without a back-end.

A `FakeWorld` stands for the back-end. It keeps attempts by key and outlives the drivers over it, so that a new `FakeDriver`
over an old world is what an orchestrator finds after a crash. What an attempt does comes from a plan. Time comes from the
clock alone and is looked at when somebody asks, so an attempt costs no task, thread or timer unless a `wait` has to wait.
"""

from __future__ import annotations

import asyncio
import math
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal

from stretto.core.errors import DriverError
from stretto.core.events import Handle, Outcome
from stretto.core.frozen import frozen
from stretto.core.ports import ArtifactFile, Clock, Launch, LogChunk
from stretto.core.spec import AttemptKey, JobSpec
from stretto.core.states import Reason, Status

Operation = Literal["prepare", "start", "find", "wait", "logs", "stop", "collect", "remove"]

CHUNK_BYTES: Final = 65_536
"""The most that one log chunk holds, as with a real driver."""


@frozen
class Hitch:
    """What goes wrong around an operation, the first `times` it is called for an attempt.

    It waits and fails before it has taken effect, or after: then the back-end has done it and the caller does not know.
    """

    delay_before_s: float = 0.0
    error_before: BaseException | None = None
    delay_after_s: float = 0.0
    error_after: BaseException | None = None
    times: int = 1

    async def before(self, clock: Clock) -> None:
        """Wait and fail as an operation does that has not taken effect."""
        await _trouble(clock, self.delay_before_s, self.error_before)

    async def after(self, clock: Clock) -> None:
        """Wait and fail as an operation does that has taken effect."""
        await _trouble(clock, self.delay_after_s, self.error_after)


NO_HITCH: Final = Hitch()


@frozen
class FakePlan:
    """What an attempt does once started.

    It writes `output` at once and ends after `duration_s`: 0 is at once, `math.inf` when `FakeWorld.release` says so.
    `start_error` is raised by every start. `files` (path in the tree to content) is what `collect` finds.
    """

    duration_s: float = 0.0
    status: Status = Status.SUCCESS
    exit_code: int | None = 0
    reason: str | None = None
    message: str | None = None
    output: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)
    ignores_term: bool = False
    start_error: DriverError | None = None
    hitches: Mapping[Operation, Hitch] = field(default_factory=dict)


def plan_from_params(key: AttemptKey, job: JobSpec) -> FakePlan:
    """Return the plan that the job's own `params` ask for (`duration_s`, `exit_code`, `output`); without any, success."""
    params = job.params
    if not params:
        return _SUCCESS
    code = int(params.get("exit_code", 0))
    return FakePlan(
        duration_s=float(params.get("duration_s", 0.0)),
        status=Status.FAILED if code else Status.SUCCESS,
        exit_code=code,
        reason=Reason.EXIT_CODE if code else None,
        message=f"the script ended with exit code {code}" if code else None,
        output=str(params.get("output", "")).encode(),
    )


_SUCCESS: Final = FakePlan()
_LOST: Final = Outcome(Status.FAILED, reason=Reason.LOST, message="the attempt is not known any more")


class FakeWorld:
    """The back-end: every attempt that was prepared or started and not removed, and how often each key's work ran."""

    def __init__(self, plan: Callable[[AttemptKey, JobSpec], FakePlan] = plan_from_params) -> None:
        self._plan = plan
        self._attempts: dict[str, _Attempt] = {}
        self._runs: Counter[str] = Counter()

    def runs_of(self, key: AttemptKey | str) -> int:
        """Return how often the work of this key ran; removing the attempt does not change that."""
        return self._runs[key if isinstance(key, str) else key.text]

    @property
    def runs(self) -> Mapping[str, int]:
        """How often the work of each key ran."""
        return self._runs

    @property
    def keys(self) -> Sequence[str]:
        """The keys of all that is still there."""
        return tuple(self._attempts)

    def directory_of(self, key: str) -> Path:
        """Return the directory of what bears this key; KeyError."""
        return self._attempts[key].directory

    def release(self, key: AttemptKey) -> None:
        """Let a running attempt end now, as planned, however long it was to last."""
        attempt = self._attempts[key.text]
        attempt.released = True
        attempt.wake()

    def lose(self, key: AttemptKey) -> None:
        """Forget the attempt, running or not, as a back-end does that loses a host."""
        self.forget(key.text)

    def forget(self, key: str) -> None:
        """Know the attempt that bears this key no more."""
        if attempt := self._attempts.pop(key, None):
            attempt.is_gone = True
            attempt.wake()

    def find(self, key: str) -> _Attempt | None:
        """Return the attempt that bears this key."""
        return self._attempts.get(key)

    def create(self, launch: Launch) -> _Attempt:
        """Return the attempt of the launch, a new one if none bears its key."""
        text = launch.key.text
        attempt = self._attempts.get(text)
        if attempt is None:
            attempt = _Attempt(text, self._plan(launch.key, launch.job), launch.directory)
            self._attempts[text] = attempt
        return attempt

    def run(self, attempt: _Attempt, now: datetime) -> None:
        """Do the attempt's work."""
        self._runs[attempt.key] += 1
        attempt.begin(now)


class _Attempt:
    """One attempt as the world has it."""

    __slots__ = (
        "calls",
        "directory",
        "ends_at",
        "is_gone",
        "key",
        "outcome",
        "plan",
        "released",
        "started_at",
        "waiters",
    )

    def __init__(self, key: str, plan: FakePlan, directory: Path) -> None:
        self.key = key
        self.plan = plan
        self.directory = directory
        self.started_at: datetime | None = None
        self.ends_at: datetime | None = None
        self.outcome: Outcome | None = None
        self.released = False
        self.is_gone = False
        self.waiters: set[asyncio.Future[None]] = set()
        self.calls: Counter[str] | None = None

    def begin(self, now: datetime) -> None:
        self.started_at = now
        if self.plan.duration_s != math.inf:
            self.ends_at = now + timedelta(seconds=self.plan.duration_s) if self.plan.duration_s else now

    def is_over(self, now: datetime) -> bool:
        """Say whether it has ended by `now`, and settle its outcome if so."""
        if self.is_gone or self.outcome is not None:
            return True
        if self.started_at is None:
            return False
        if self.released or (self.ends_at is not None and self.ends_at <= now):
            plan = self.plan
            ended_at = now if self.ends_at is None or self.released else self.ends_at
            self.outcome = Outcome(plan.status, plan.exit_code, plan.reason, plan.message, self.started_at, ended_at)
            return True
        return False

    def kill(self, signal_name: str, exit_code: int, now: datetime) -> None:
        message = f"killed by {signal_name}"
        self.outcome = Outcome(Status.FAILED, exit_code, Reason.KILLED, message, self.started_at, now)
        self.wake()

    def wake(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    def hitch(self, operation: Operation) -> Hitch:
        """Return what is to go wrong with this call of `operation`."""
        hitch = self.plan.hitches.get(operation)
        if hitch is None:
            return NO_HITCH
        if self.calls is None:
            self.calls = Counter()
        self.calls[operation] += 1
        return hitch if self.calls[operation] <= hitch.times else NO_HITCH


class FakeDriver:
    """`core.ports.Driver` over a `FakeWorld`."""

    def __init__(self, world: FakeWorld, clock: Clock, *, name: str = "fake", prepares: bool = True) -> None:
        self.name = name
        self.prepares = prepares
        self._world = world
        self._clock = clock

    async def prepare(self, launch: Launch) -> None:
        """Make the world know the attempt."""
        attempt = self._world.create(launch)
        hitch = attempt.hitch("prepare")
        await hitch.before(self._clock)
        await hitch.after(self._clock)

    async def start(self, launch: Launch) -> Handle:
        """Do the attempt's work unless it was done, and return its handle."""
        attempt = self._world.create(launch)
        hitch = attempt.hitch("start")
        if hitch is not NO_HITCH:
            await hitch.before(self._clock)
        if attempt.plan.start_error is not None:
            raise attempt.plan.start_error
        if attempt.started_at is None:
            self._world.run(attempt, self._clock.now())
        if hitch is not NO_HITCH:
            await hitch.after(self._clock)
        return Handle(self.name, attempt.key, {"directory": str(attempt.directory)})

    async def find(self, key: AttemptKey, directory: Path) -> Handle | None:
        """Return the attempt's handle if it was started and not removed."""
        attempt = self._world.find(key.text)
        if attempt is None or attempt.started_at is None:
            return None
        hitch = attempt.hitch("find")
        await hitch.before(self._clock)
        await hitch.after(self._clock)
        return Handle(self.name, attempt.key, {"directory": str(attempt.directory)})

    async def wait(self, handle: Handle) -> Outcome:
        """Return the planned outcome as soon as the clock has reached it."""
        attempt = self._world.find(handle.key)
        if attempt is None:
            return _LOST
        hitch = attempt.hitch("wait")
        if hitch is not NO_HITCH:
            await hitch.before(self._clock)
        if not attempt.is_over(self._clock.now()):
            await self._until_over(attempt, math.inf)
        if hitch is not NO_HITCH:
            await hitch.after(self._clock)
        return _LOST if attempt.outcome is None else attempt.outcome

    async def logs(self, handle: Handle, position: int) -> AsyncIterator[LogChunk]:
        """Yield the planned output after `position`, then wait for the end."""
        attempt = self._world.find(handle.key)
        if attempt is None:
            return
        hitch = attempt.hitch("logs")
        await hitch.before(self._clock)
        output = attempt.plan.output if attempt.started_at is not None else b""
        while position < len(output):
            data = output[position : position + CHUNK_BYTES]
            position += len(data)
            yield LogChunk(self._clock.now(), data, position)
        if not attempt.is_over(self._clock.now()):
            await self._until_over(attempt, math.inf)
        await hitch.after(self._clock)

    async def stop(self, handle: Handle, grace_s: float) -> None:
        """End a running attempt: at once, or after `grace_s` where it ignores TERM."""
        attempt = self._world.find(handle.key)
        if attempt is None:
            return
        hitch = attempt.hitch("stop")
        await hitch.before(self._clock)
        if attempt.started_at is not None and not attempt.is_over(self._clock.now()):
            if not attempt.plan.ignores_term:
                attempt.kill("SIGTERM", 143, self._clock.now())
            elif not await self._until_over(attempt, grace_s):
                attempt.kill("SIGKILL", 137, self._clock.now())
        await hitch.after(self._clock)

    async def collect(self, handle: Handle, patterns: Sequence[str], limit_bytes: int) -> Sequence[ArtifactFile]:
        """Lay the planned files that match into the attempt's directory and return them."""
        attempt = self._world.find(handle.key)
        if attempt is None:
            return ()
        hitch = attempt.hitch("collect")
        await hitch.before(self._clock)
        taken = {path: data for path, data in sorted(attempt.plan.files.items()) if _matches(path, patterns)}
        if sum(map(len, taken.values())) > limit_bytes:
            raise DriverError(
                f"the artifacts of {attempt.key} are larger than {limit_bytes} bytes", reason=Reason.ARTIFACTS_FAILED
            )
        files = [_lay(attempt.directory, path, data) for path, data in taken.items()]
        await hitch.after(self._clock)
        return files

    async def remove(self, handle: Handle) -> None:
        """Forget the attempt, running or not."""
        attempt = self._world.find(handle.key)
        if attempt is None:
            return
        hitch = attempt.hitch("remove")
        if hitch is not NO_HITCH:
            await hitch.before(self._clock)
        self._world.forget(attempt.key)
        if attempt.plan.files:
            shutil.rmtree(attempt.directory, ignore_errors=True)
        if hitch is not NO_HITCH:
            await hitch.after(self._clock)

    async def orphans(self) -> Sequence[Handle]:
        """Return all that the world has."""
        return [Handle(self.name, key, {"directory": str(self._world.directory_of(key))}) for key in self._world.keys]

    async def close(self) -> None:
        """Do nothing: the world goes on."""

    async def _until_over(self, attempt: _Attempt, limit_s: float) -> bool:
        """Come back when the attempt has ended (True) or after `limit_s` (False)."""
        gives_up_at = None if limit_s == math.inf else self._clock.now() + timedelta(seconds=limit_s)
        while not attempt.is_over(now := self._clock.now()):
            if gives_up_at is not None and gives_up_at <= now:
                return False
            ends = [at for at in (attempt.ends_at, gives_up_at) if at is not None]
            await self._change(attempt, (min(ends) - now).total_seconds() if ends else None)
        return True

    async def _change(self, attempt: _Attempt, limit_s: float | None) -> None:
        """Come back when something was done to the attempt, or after `limit_s`."""
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        attempt.waiters.add(change)
        try:
            if limit_s is None:
                await change
                return
            nap = asyncio.create_task(self._clock.sleep(limit_s), name=f"nap of {attempt.key}")
            try:
                done, _ = await asyncio.wait({nap, change}, return_when=asyncio.FIRST_COMPLETED)
                if nap in done:
                    nap.result()
            finally:
                nap.cancel()
        finally:
            attempt.waiters.discard(change)


async def _trouble(clock: Clock, delay_s: float, error: BaseException | None) -> None:
    if delay_s:
        await clock.sleep(delay_s)
    if error is not None:
        raise error


def _matches(path: str, patterns: Sequence[str]) -> bool:
    """Say whether a pattern is the path, a directory above it, or a glob that it fits."""
    return any(
        path == pattern or path.startswith(f"{pattern.rstrip('/')}/") or fnmatchcase(path, pattern)
        for pattern in patterns
    )


def _lay(directory: Path, path: str, data: bytes) -> ArtifactFile:
    source = directory / path
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(data)
    return ArtifactFile(path, source, len(data))
