"""The driver `docker`. Puts the parts together and ends attempts; see `ports.Driver` for what each call promises.

Everything made for an attempt has its key's name: the container, the volume of its tree, the container that tidies up after it.
All of it bears the installation's label, and none of another installation is ever touched.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import weakref
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

from stretto.core.errors import DriverError
from stretto.core.events import Handle, Outcome
from stretto.core.ports import ArtifactFile, Launch, LogChunk
from stretto.core.spec import AttemptKey
from stretto.core.states import Reason
from stretto.drivers.docker import tree
from stretto.drivers.docker.cleanup import TARGET, discard, run_as_root
from stretto.drivers.docker.client import Client, RefusedError, field, segment
from stretto.drivers.docker.container import INSTALLATION, Place, handle_from_labels, labels_for
from stretto.drivers.docker.endpoint import resolve
from stretto.drivers.docker.image import Images
from stretto.drivers.docker.launcher import Launcher
from stretto.drivers.docker.observer import GONE, Observer
from stretto.drivers.docker.record import STARTED, inspect, is_running, written_at
from stretto.drivers.docker.settings import DockerSettings
from stretto.drivers.docker.wrapper import STOP_COMMAND
from stretto.sources.removal import ForeignFilesError, remove_tree
from stretto.sources.workspace import collect, remove_view

log = logging.getLogger(__name__)

KILL_TIMEOUT_S: Final = 60.0
"""How long a killed container may take to be gone; a process in uninterruptible sleep makes it last."""
BUSY_TRIES: Final = 5
BUSY_PAUSE_S: Final = 0.2
"""A volume is in use until the engine has put its container away."""


class DockerDriver:
    """Attempts as containers of one Docker engine."""

    name = "docker"
    prepares = True

    def __init__(
        self, settings: DockerSettings, *, installation: str, environ: Mapping[str, str] | None = None
    ) -> None:
        """`installation` labels all that is made, so that two installations on one engine leave each other alone."""
        environ = os.environ if environ is None else environ
        self._client = Client(
            resolve(settings.host, environ),
            connect_timeout_s=settings.connect_timeout_s,
            request_timeout_s=settings.request_timeout_s,
        )
        images = Images(self._client, pull=settings.pull, timeout_s=settings.pull_timeout_s, environ=environ)
        self._launcher = Launcher(self._client, settings, images, installation=installation)
        self._observer = Observer(self._client, self._launcher, reconnect_s=settings.reconnect_s)
        self._installation = installation
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def prepare(self, launch: Launch) -> None:
        """Start the attempt's container, which waits at its gate."""
        async with self._lock(launch.key.name):
            await self._launcher.bring_up(launch)

    async def start(self, launch: Launch) -> Handle:
        """Bring the container up, if it isn't, and open its gate."""
        place = Place.of(launch.key, launch.directory)
        async with self._lock(place.name):
            await self._launcher.bring_up(launch)
            await self._launcher.release(place)
        return place.handle()

    async def find(self, key: AttemptKey, directory: Path) -> Handle | None:
        """Return the handle if the gate was opened and the container is there."""
        place = Place.of(key, directory)
        if not place.released.exists() or await inspect(self._client, place.name) is None:
            return None
        return place.handle()

    async def wait(self, handle: Handle) -> Outcome:
        """Return how the attempt ended; EngineUnavailableError if the engine stays away."""
        return await self._observer.wait(Place.read(handle))

    async def logs(self, handle: Handle, position: int) -> AsyncGenerator[LogChunk, None]:
        """Yield the output after `position`."""
        async with aclosing(self._observer.logs(Place.read(handle), position)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def stop(self, handle: Handle, grace_s: float) -> None:
        """TERM to all of the job's processes (`after_script` then runs), KILL to the container after `grace_s`."""
        place = Place.read(handle)
        container = await inspect(self._client, place.name)
        if container is None or not is_running(container):
            return
        try:
            if await written_at(self._client, place, STARTED) is not None:
                await self._terminate(place)
                if await self._has_stopped(place, grace_s):
                    return
        except RefusedError as error:
            if error.status not in GONE:
                raise
        await self._kill(place)

    async def collect(self, handle: Handle, patterns: Sequence[str], limit_bytes: int) -> Sequence[ArtifactFile]:
        """Return what the job left; fetched from an engine that is elsewhere."""
        place = Place.read(handle)
        directory = tree.view_directory(place)
        if not place.control.is_dir():
            await tree.download(self._client, place.name, directory / "tree", patterns)
        try:
            files = await collect(directory, list(patterns), limit_bytes)
            if await asyncio.to_thread(_may_read, files):
                return files
        except DriverError as error:
            if not isinstance(error.__cause__, PermissionError):
                raise
        written = "upper" if (directory / "upper").exists() else "tree"
        await self._as_root(place, ("chown", "-Rh", f"{os.geteuid()}:{os.getegid()}", f"{TARGET}/view/{written}"))
        return await collect(directory, list(patterns), limit_bytes)

    async def remove(self, handle: Handle) -> None:
        """Remove files, containers and volume: the files first, as the labels of the others are how the attempt is found."""
        place = Place.read(handle)
        async with self._lock(place.name):
            await self._launcher.detach(place)
            container = await inspect(self._client, place.name)
            if container is not None and is_running(container):
                await self._kill(place)
            await discard(self._client, place.tidier)
            try:
                await remove_view(tree.view_directory(place))
                await asyncio.to_thread(remove_tree, place.directory)
            except ForeignFilesError:
                await self._as_root(place, ("rm", "-rf", f"{TARGET}/view", f"{TARGET}/control"))
                await asyncio.to_thread(remove_tree, place.directory)
            await discard(self._client, place.name)
            await self._discard_volume(place)

    async def orphans(self) -> Sequence[Handle]:
        """Return a handle for every attempt of which a container or a volume of this installation is there."""
        query = {"filters": json.dumps({"label": [f"{INSTALLATION}={self._installation}"]})}
        containers = await self._client.call("GET", "/containers/json", query={"all": "true", **query})
        volumes = await self._client.call("GET", "/volumes", query=query)
        found: dict[str, Handle] = {}
        for item in (*field(containers, kind=list), *(field(volumes, kind=dict).get("Volumes") or ())):
            handle = handle_from_labels(field(item, kind=dict).get("Labels") or {})
            if handle is not None:
                found[handle.key] = handle
        return list(found.values())

    async def close(self) -> None:
        """Let go of all connections; attempts go on."""
        await self._launcher.close()
        await self._client.close()

    def _lock(self, name: str) -> asyncio.Lock:
        """Return the lock that keeps calls for one attempt apart; it lives as long as someone holds or wants it."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def _kill(self, place: Place) -> None:
        """Kill the attempt's container and come back when it has stopped, or is gone. DriverError."""
        try:
            await self._client.call("POST", f"/containers/{segment(place.name)}/kill", query={"signal": "KILL"})
        except RefusedError as error:
            if error.status not in GONE:
                raise
        if not await self._has_stopped(place, KILL_TIMEOUT_S):
            raise DriverError(f"container {place.name} does not end though it was killed", reason=Reason.KILLED)

    async def _terminate(self, place: Place) -> None:
        """Send TERM to every process of the attempt but the wrapper."""
        body: dict[str, Any] = {"Cmd": list(STOP_COMMAND)}
        try:
            made = await self._client.call("POST", f"/containers/{segment(place.name)}/exec", json_body=body)
            await self._client.call(
                "POST", f"/exec/{segment(field(made, 'Id', kind=str))}/start", json_body={"Detach": True}
            )
        except RefusedError as error:
            if error.status in GONE:
                return
            log.warning("TERM can't be sent; waiting for KILL", extra={"container": place.name, "error": error.message})

    async def _has_stopped(self, place: Place, limit_s: float) -> bool:
        """Wait for the container's end and say whether it came in time."""
        path = f"/containers/{segment(place.name)}/wait"
        try:
            async with asyncio.timeout(limit_s):
                await self._client.call("POST", path, timeout_s=limit_s + 1)
        except TimeoutError:
            return False
        except RefusedError as error:
            if error.status not in GONE:
                raise
        return True

    async def _discard_volume(self, place: Place) -> None:
        for left in reversed(range(BUSY_TRIES)):
            try:
                await self._launcher.discard_volume(place.name)
                return
            except RefusedError as error:
                if error.status != 409 or not left:
                    raise
            await asyncio.sleep(BUSY_PAUSE_S)

    async def _as_root(self, place: Place, command: Sequence[str]) -> None:
        image = await asyncio.to_thread((place.directory / "image").read_text)
        await run_as_root(
            self._client,
            place.tidier,
            image=image,
            directory=place.directory,
            command=command,
            labels=labels_for(place, self._installation),
        )


def _may_read(files: Sequence[ArtifactFile]) -> bool:
    """Whether this process may read them all: what the container's root wrote may be closed to others. Blocks."""
    return all(file.link is not None or os.access(file.source, os.R_OK) for file in files)
