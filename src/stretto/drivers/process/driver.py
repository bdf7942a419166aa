"""`core.ports.Driver` for processes on this host.

An attempt is a shim (`shim.sh`) and the script's shell. All that is known of it is in its directory (`folder.py`), so any
orchestrator can take it up. Blocking calls go to a thread, but for the spawn itself and reads of small local files, which
are shorter than the way there and back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from stretto.core.errors import DriverError, EngineUnavailableError
from stretto.core.events import Handle, Outcome
from stretto.core.ports import ArtifactFile, Launch, LogChunk
from stretto.core.spec import AttemptKey
from stretto.core.states import Reason
from stretto.drivers.process.environment import build_environment
from stretto.drivers.process.folder import Folder, find_folders
from stretto.drivers.process.growth import Growth, size_of
from stretto.drivers.process.host import (
    is_marked_anywhere,
    is_young,
    kill_attempt,
    map_os_error,
    signal_attempt,
    spawn_shim,
)
from stretto.drivers.process.outcome import read_outcome
from stretto.drivers.process.place import find_place
from stretto.drivers.process.settings import ProcessSettings
from stretto.drivers.process.spare import Spares
from stretto.drivers.process.watch import Watch
from stretto.sources.lock import LockTimeoutError, locked
from stretto.sources.workspace import collect, discard_view, is_untouched, open_view

log = logging.getLogger(__name__)

T = TypeVar("T")

CHUNK_BYTES: Final = 65_536
"""The most that one log chunk holds, and so the most that following a log takes of memory."""

LOOK_AGAIN_S: Final = 0.005
"""Between two looks for the pid that a shim is about to write."""


class ProcessDriver:
    """Attempts as processes of the user that the orchestrator runs as."""

    name = "process"
    prepares = False

    def __init__(self, settings: ProcessSettings) -> None:
        self._settings = settings
        self._watches: dict[str, Watch] = {}
        self._spares = Spares()
        self._growth = Growth(settings.log_delay_min_s, settings.log_delay_max_s)

    async def prepare(self, launch: Launch) -> None:
        """Make the attempt's directory, its files and its tree."""
        folder = Folder(str(launch.directory))
        async with self._sole(launch, folder):
            await self._prepare(launch, folder)

    async def start(self, launch: Launch) -> Handle:
        """Start a shim unless one has the attempt. Should there be two after a crash, the second to come runs nothing."""
        key, folder = launch.key.text, Folder(str(launch.directory))
        if not self._has_shim(key, folder):
            async with self._sole(launch, folder):
                if not self._has_shim(key, folder):
                    place = await self._prepare(launch, folder)
                    self._spawn(launch, folder, place)
        return self._handle(key, folder)

    async def find(self, key: AttemptKey, directory: Path) -> Handle | None:
        """Return the handle if there is or was a shim for the attempt."""
        folder = Folder(str(directory))
        return self._handle(key.text, folder) if folder.is_started else None

    async def wait(self, handle: Handle) -> Outcome:
        """Return how the script ended, as soon as its shim is over."""
        folder = _folder_of(handle)
        while (watch := await self._watch(handle.key, folder)) is not None and not watch.is_over:
            await asyncio.shield(watch.over)
        return read_outcome(folder, None if watch is None else watch.over.result())

    async def logs(self, handle: Handle, position: int) -> AsyncIterator[LogChunk]:
        """Yield what the log file has after `position`, and what comes until the shim is over."""
        folder = _folder_of(handle)
        while True:
            watch = await self._watch(handle.key, folder)
            is_over = watch is None or watch.is_over
            end = size_of(folder.log)  # what a stray process still writes after the end is not waited for
            while position < end and (data := _read(folder.log, position, min(CHUNK_BYTES, end - position))):
                position += len(data)
                yield LogChunk(datetime.now(UTC), data, position)
            if watch is None or is_over:
                return
            await self._growth.wait(folder.log, position, watch.over)

    async def stop(self, handle: Handle, grace_s: float) -> None:
        """TERM to all processes of the attempt; KILL to what is left when its shim is over or the time has run out."""
        folder = _folder_of(handle)
        watch = await self._watch(handle.key, folder)
        if watch is None or watch.is_over:
            return
        await _finish(asyncio.to_thread(signal_attempt, handle.key, watch.pid, signal.SIGTERM))
        await asyncio.wait([watch.over], timeout=grace_s)
        if not watch.is_over:
            folder.mark_killed()
        await self._kill(handle.key, folder, watch)

    async def collect(self, handle: Handle, patterns: Sequence[str], limit_bytes: int) -> Sequence[ArtifactFile]:
        """Return the files of the attempt's tree that match."""
        return await collect(_folder_of(handle).view, list(patterns), limit_bytes)

    async def remove(self, handle: Handle) -> None:
        """Kill what is left of the attempt and delete its directory."""
        folder = _folder_of(handle)
        watch = await self._watch(handle.key, folder)
        if watch is not None and not watch.is_over:
            folder.mark_killed()
            await self._kill(handle.key, folder, watch)
        await self._remove(handle.key, folder)
        self._forget(handle.key)
        if not self._watches:
            await self._drop_spares()

    async def orphans(self) -> Sequence[Handle]:
        """Return every attempt that has a directory."""
        found = await asyncio.to_thread(lambda: list(find_folders(str(self._settings.attempts))))
        return [self._handle(key, folder) for key, folder in found]

    async def close(self) -> None:
        """Watch nothing any more, and remove what was kept of attempts that are over."""
        for key in list(self._watches):
            self._forget(key)
        await self._drop_spares()

    async def _remove(self, key: str, folder: Folder) -> None:
        """Remove an attempt that is over; its tree may be kept as long as others are under way. DriverError."""
        try:
            if not (is_untouched(folder.view) and is_young(_age_of(folder))):
                self._spares.forget(key)
                await _finish(asyncio.to_thread(_clear, key, folder))
            elif len(self._watches) == 1 or not self._keep(key, folder):
                self._spares.forget(key)
                _clear(key, folder)  # half a millisecond, what the way to a thread and back would take as well
        except OSError as error:
            raise map_os_error(error, f"{folder.path} can't be deleted", reason=Reason.TREE_FAILED) from error

    def _keep(self, key: str, folder: Folder) -> bool:
        """Kill what the attempt has left running and keep its tree for another one, if it is as new; say whether. OSError."""
        kill_attempt(key, folder.read_pid(), age_s=_age_of(folder))
        return self._spares.keep(key, folder)

    async def _drop_spares(self) -> None:
        """Remove the attempts whose trees were kept; what can't be removed now is found again as an orphan."""
        if folders := self._spares.drain():
            try:
                await _finish(asyncio.to_thread(_discard, folders))
            except OSError as error:
                log.warning("spare trees not removed; gc will try again", exc_info=error)

    @asynccontextmanager
    async def _sole(self, launch: Launch, folder: Folder) -> AsyncIterator[None]:
        """Make the attempt's directory and be the only one, of all processes, that works in it. DriverError."""
        try:
            folder.create()
            async with locked(folder.lock, timeout_s=self._settings.lock_timeout_s):
                yield
        except LockTimeoutError as error:
            raise EngineUnavailableError(error.message, hint=error.hint) from error
        except OSError as error:
            raise map_os_error(error, f"{folder.path}: the attempt's files can't be made") from error

    async def _prepare(self, launch: Launch, folder: Folder) -> Path:
        """Make what the attempt needs before it starts and return its working directory. Idempotent. DriverError, OSError."""
        if launch.job.script is None:
            raise DriverError(f"job {launch.job.name!r} has no script to run", reason=Reason.START_FAILED)
        if not folder.is_started:  # else a shim may be about to read them
            folder.write(launch.key.text, launch.job.script)
        is_new = not folder.view.exists() and not self._spares.take(launch, folder)
        view = await _finish(open_view(launch.tree, folder.view, overlay=self._settings.overlay))
        if is_new:
            self._spares.note(launch, folder)
        return find_place(view.path, launch.job.working_directory)

    def _has_shim(self, key: str, folder: Folder) -> bool:
        return key in self._watches or folder.is_taken

    def _spawn(self, launch: Launch, folder: Folder, place: Path) -> None:
        """Start the shim and watch it. Nothing is awaited in between, so that no child is left unwatched."""
        key, shell = launch.key.text, self._settings.shell
        environment = build_environment(key, launch.variables, shell, own=os.environ)
        is_first = not folder.is_started
        folder.mark_started()
        try:
            pid = spawn_shim(folder, place, shell, environment)
        except DriverError:
            if is_first:
                folder.unmark_started()
            raise
        self._watches[key] = Watch.child(pid)

    async def _watch(self, key: str, folder: Folder) -> Watch | None:
        """Return what watches the attempt's shim; None where there is no shim, or one that is gone and was not ours.

        A shim that is over may have come second: then the watch is that of the one which has taken the attempt.
        """
        watch = self._watches.get(key)
        if watch is not None and (not watch.is_over or watch.over.result() == 0):  # one that came second ends with 120
            return watch
        pid = await self._read_pid(key, folder)
        if pid is None or (watch is not None and watch.pid == pid):
            return watch
        if (adopted := Watch.adopt(key, pid)) is not None:
            self._watches[key] = adopted
        return adopted

    async def _read_pid(self, key: str, folder: Folder) -> int | None:
        """Return which shim has the attempt; one that is just starting is about to write its pid down.

        A spawn that its orchestrator did not live to see the end of bears no mark yet, for a moment.
        """
        clock = asyncio.get_running_loop().time
        seen_at = clock()
        while (pid := folder.read_pid()) is None and folder.is_started:
            if await asyncio.to_thread(is_marked_anywhere, key):
                seen_at = clock()
            elif clock() - seen_at > self._settings.lost_after_s:
                return None
            await asyncio.sleep(LOOK_AGAIN_S)
        return pid

    async def _kill(self, key: str, folder: Folder, watch: Watch) -> None:
        """Kill all of the attempt's processes and come back when its shim is over. DriverError."""
        await _finish(asyncio.to_thread(kill_attempt, key, watch.pid, age_s=_age_of(folder)))
        await asyncio.wait([watch.over], timeout=self._settings.kill_timeout_s)
        if not watch.is_over:
            raise EngineUnavailableError(
                f"{key} was killed and is still there", hint="it hangs in the kernel, on a file system that is gone?"
            )

    def _handle(self, key: str, folder: Folder) -> Handle:
        return Handle(self.name, key, {"directory": folder.path})

    def _forget(self, key: str) -> None:
        if watch := self._watches.pop(key, None):
            watch.close()


def _clear(key: str, folder: Folder) -> None:
    """Kill what an attempt that is over has left running, and delete all its files. OSError."""
    if folder.is_there:
        kill_attempt(key, folder.read_pid(), age_s=_age_of(folder))
        _discard([folder])


def _discard(folders: Sequence[Folder]) -> None:
    """Delete all files of attempts that have no process any more. OSError."""
    for folder in folders:
        discard_view(folder.view)
        folder.delete()


def _age_of(folder: Folder) -> float | None:
    """Return for how long the attempt's shim has been there, in seconds; None where that is not known."""
    started_at = folder.started_at
    return None if started_at is None else (datetime.now(UTC) - started_at).total_seconds()


def _folder_of(handle: Handle) -> Folder:
    return Folder(handle.ref["directory"])


def _read(path: str, position: int, size: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            file.seek(position)
            return file.read(size)
    except FileNotFoundError:
        return b""


async def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` that goes on in a thread. Being cancelled waits for it: nothing goes on behind the caller's back."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
