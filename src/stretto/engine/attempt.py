"""One attempt, from the decision to start it to its outcome: tree, start, output, end, artifacts.

An attendant only talks to the driver and reports facts (`post`); it decides nothing and writes no state. Whatever goes wrong
becomes an outcome with a reason, so that a run always ends.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from stretto.core import events as ev
from stretto.core.errors import DiskFullError, DriverError, FenceLostError, InputError, StrettoError
from stretto.core.frozen import frozen
from stretto.core.ports import ArtifactStore, Clock, Driver, Launch, LogStore
from stretto.core.run import Attempt, JobRun
from stretto.core.spec import AttemptKey
from stretto.core.states import Reason, Status

log = logging.getLogger(__name__)

START_TIMEOUT_S = 3600.0
"""A start may pull a large image over a slow line; what takes longer is stuck."""
COLLECT_TIMEOUT_S = 600.0
REMOVE_TIMEOUT_S = 120.0


@frozen
class Places:
    """What attendants share: where output and artifacts go, what time it is, and the limits."""

    logs: LogStore
    artifacts: ArtifactStore
    clock: Clock
    artifacts_limit_bytes: int
    grace_s: float


class Attendant:
    """Looks after one attempt. `run` is to be a task of its own; `stop` may be called at any time from another.

    `adopted` says that another conductor began to look after it.
    """

    def __init__(
        self,
        key: AttemptKey,
        job: JobRun,
        driver: Driver,
        directory: Path,
        *,
        adopted: bool,
        places: Places,
        launch: Callable[[JobRun, AttemptKey, Path], Awaitable[Launch]],
        post: Callable[[ev.Event], None],
    ) -> None:
        self.key = key
        self.driver = driver
        self.handle = ev.Handle(driver.name, key.text, {"directory": str(directory)})
        self._job = job
        self._directory = directory
        self._adopted = adopted
        self._places = places
        self._launch = launch
        self._post = post
        self._recorded = asyncio.Event()
        self._known = False
        self._stopping = False
        self._starting = False
        self._cut_off = False
        self._task: asyncio.Task[None] | None = None

    async def run(self, recorded: Attempt) -> None:
        """Start or adopt the attempt (as `recorded` says), see it through, and post how it ended."""
        self._task = asyncio.current_task()
        try:
            outcome, artifacts = await self._see_through(recorded)
        except asyncio.CancelledError:
            if self._task is None or not self._cut_off or self._task.uncancel() > 0:
                raise  # not (only) our own `stop`: the conductor hands the run over
            outcome, artifacts = await self._stop_what_there_is(), ()
        except FenceLostError:
            raise  # no outcome: the attempt is another conductor's now
        except Exception as error:
            log.exception("bug while looking after an attempt", extra={"attempt": self.key.text})
            outcome, artifacts = _failed(Reason.ENGINE_FAULT, f"a bug of Stretto: {type(error).__name__}: {error}"), ()
        now = self._places.clock.now()
        self._post(ev.AttemptEnded(now, self.key.job, self.key.number, outcome, tuple(artifacts)))
        await self._recorded.wait()
        await self._remove()

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    def outcome_is_recorded(self) -> None:
        """Allow what the attempt created outside to be removed: its outcome is on disk."""
        self._recorded.set()

    def stop(self, *, grace_s: float | None = None) -> Coroutine[Any, Any, None]:
        """Make the attempt end; its outcome is posted by `run` as always. Repeatable, with another grace.

        It counts as stopping from the call on, not only once the coroutine has its first turn.
        """
        self._stopping = True
        return self._stop(grace_s)

    async def _stop(self, grace_s: float | None) -> None:
        if self._known:
            await self._ask_to_stop(self._places.grace_s if grace_s is None else grace_s)
        elif self._task is not None and self._starting and not self._cut_off:
            self._cut_off = True
            self._task.cancel()

    async def _remove(self) -> None:
        """Leave nothing of the attempt outside. What can't be removed now is found again as an orphan later."""
        try:
            async with asyncio.timeout(REMOVE_TIMEOUT_S):
                await self.driver.remove(self.handle)
        except Exception as error:
            log.warning("attempt not removed; gc will try again", extra={"attempt": self.key.text}, exc_info=error)

    # ------------------------------------------------------------------------------------------------------- pieces

    async def _see_through(self, recorded: Attempt) -> tuple[ev.Outcome, Sequence[ev.Artifact]]:
        try:
            if recorded.handle is not None:
                self.handle = recorded.handle
            elif recorded.stop_reason is not None or self._stopping:
                return await self._stop_what_there_is(), ()
            else:
                self._starting = True
                try:
                    launch = await self._launch(self._job, self.key, self._directory)
                    async with asyncio.timeout(START_TIMEOUT_S):
                        self.handle = await self.driver.start(launch)
                finally:
                    self._starting = False
                self._post(ev.AttemptStarted(self._places.clock.now(), self.key.job, self.key.number, self.handle))
            self._known = True
            if self._stopping or recorded.stop_reason is not None:
                await self._ask_to_stop(self._places.grace_s)
            log_failure = await self._keep_log(adopted=self._adopted)
            outcome = await self.driver.wait(self.handle)
            if log_failure is not None:
                return log_failure, ()
            return await self._collect(outcome)
        except DriverError as error:
            return _failed(error.reason, error.message), ()
        except FenceLostError:
            raise
        except DiskFullError as error:
            return _failed(Reason.DISK_FULL, error.message), ()
        except TimeoutError:
            return _failed(Reason.START_FAILED, f"not started within {START_TIMEOUT_S:g} s"), ()
        except StrettoError as error:
            return _failed(Reason.TREE_FAILED, error.message), ()
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            return _failed(Reason.DISK_FULL if full else Reason.TREE_FAILED, str(error)), ()

    async def _keep_log(self, *, adopted: bool) -> ev.Outcome | None:
        """Write the attempt's output down until it is over; an outcome is returned only where that can't be done.

        A log is opened with the first bytes, except that of an adopted attempt, which says where to go on.
        """
        writer = await self._places.logs.open(self.key) if adopted else None
        complete = False
        try:
            async for chunk in self.driver.logs(self.handle, writer.position if writer is not None else 0):
                if writer is None:
                    writer = await self._places.logs.open(self.key)
                await writer.append(chunk)
            complete = True
        except DiskFullError as error:
            complete = True
            await self._ask_to_stop(0)
            return _failed(Reason.DISK_FULL, f"the job was stopped: its output can't be stored: {error.message}")
        finally:
            if writer is not None:
                await writer.close(complete=complete)
        return None

    async def _collect(self, outcome: ev.Outcome) -> tuple[ev.Outcome, Sequence[ev.Artifact]]:
        """Store what the job left, also where it failed: test reports are wanted most then."""
        patterns = self._job.spec.artifacts
        if not patterns or outcome.reason in (Reason.LOST, Reason.ENGINE_UNAVAILABLE):
            return outcome, ()
        try:
            async with asyncio.timeout(COLLECT_TIMEOUT_S):
                files = await self.driver.collect(self.handle, patterns, self._places.artifacts_limit_bytes)
                return outcome, await self._places.artifacts.add(self.key, files)
        except (DriverError, InputError, DiskFullError, OSError, TimeoutError) as error:
            if outcome.status is not Status.SUCCESS:
                return outcome, ()
            full = isinstance(error, DiskFullError)
            message = str(error) or f"not collected within {COLLECT_TIMEOUT_S:g} s"
            return _failed(Reason.DISK_FULL if full else Reason.ARTIFACTS_FAILED, message, outcome.exit_code), ()

    async def _ask_to_stop(self, grace_s: float) -> None:
        try:
            await self.driver.stop(self.handle, grace_s)
        except Exception as error:  # what can't be stopped is waited for; a person may ask again
            log.warning("attempt not stopped", extra={"attempt": self.key.text}, exc_info=error)

    async def _stop_what_there_is(self) -> ev.Outcome:
        """End an attempt of which it is not known whether it was started: find out, without starting it."""
        try:
            handle = await self.driver.find(self.key, self._directory)
            if handle is None:
                return ev.Outcome(
                    Status.CANCELED, reason=Reason.CANCEL_REQUESTED, message="stopped before it was started"
                )
            self.handle, self._known = handle, True
            await self._ask_to_stop(self._places.grace_s)
            await self._keep_log(adopted=True)
            return await self.driver.wait(handle)
        except DriverError as error:
            return _failed(error.reason, error.message)
        except (StrettoError, OSError) as error:
            return _failed(Reason.DISK_FULL, str(error))


def _failed(reason: str, message: str, exit_code: int | None = None) -> ev.Outcome:
    return ev.Outcome(Status.FAILED, exit_code=exit_code, reason=reason, message=message)
