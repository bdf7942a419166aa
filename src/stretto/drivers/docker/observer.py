"""Watches attempts: their end and their output. Survives an engine that is away for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

from stretto.core.errors import EngineUnavailableError
from stretto.core.events import Outcome
from stretto.core.ports import LogChunk
from stretto.drivers.docker.client import FOREVER, Client, RefusedError, segment
from stretto.drivers.docker.container import Place, lost, outcome_of
from stretto.drivers.docker.launcher import Launcher
from stretto.drivers.docker.output import Demultiplexer
from stretto.drivers.docker.patience import Patience
from stretto.drivers.docker.record import EXIT, STARTED, inspect, is_running, read_exit, written_at

GONE: Final = frozenset({404, 409})
"""Answers about a container that is not there, or is being removed."""

FOLLOW_PAUSE_S: Final = 0.1
"""Between two looks at a log that the engine does not follow though its container runs."""


class Observer:
    """Reads what the engine and the attempts' own records say. Any number of calls at once."""

    def __init__(self, client: Client, launcher: Launcher, *, reconnect_s: float) -> None:
        self._client = client
        self._launcher = launcher
        self._reconnect_s = reconnect_s

    async def wait(self, place: Place) -> Outcome:
        """Return how the attempt ended, when it has.

        The end of its output is the first sign: the engine itself says so only after it has taken the network down (about
        0.1 s later). A success on record then needs no more; anything else is the engine's to explain.
        """
        output = self._launcher.output(place.name)
        if output is not None:
            await output.ended.wait()
        patience = Patience(self._reconnect_s)
        while True:
            code = read_exit(place)
            if code == 0:
                started_at, ended_at = await self._times(place)
                return outcome_of({}, code=0, started_at=started_at, ended_at=ended_at)
            try:
                return await self._ask_for_end(place, patience)
            except EngineUnavailableError as error:
                await patience.pause(error)

    async def logs(self, place: Place, position: int) -> AsyncGenerator[LogChunk, None]:
        """Yield the output after `position`: from the attached stream if it has it, else from the engine's own log."""
        output = self._launcher.output(place.name)
        if output is not None and output.can_give(position):
            async with aclosing(output.read()) as chunks:
                async for chunk in chunks:
                    position = chunk.position
                    yield chunk
            if output.intact and read_exit(place) is not None:
                return
        # The stream broke off, was let go of, or ended with something else than the script: the engine's log has the rest.
        async with aclosing(self._engine_log(place, position)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _ask_for_end(self, place: Place, patience: Patience) -> Outcome:
        container = await inspect(self._client, place.name)
        patience.heard()
        if container is None:
            return lost("the engine does not know the container any more")
        if is_running(container):
            if place.released.exists() and await written_at(self._client, place, STARTED) is None:
                await self._launcher.release(place)  # whoever noted it was cut off before it opened the gate
            await self._wait_for_stop(place)
            patience.heard()
            container = await inspect(self._client, place.name)
            if container is None:
                return lost("the container was removed while it ran")
        code = read_exit(place)
        started_at, ended_at = await self._times(place)
        if code is None and ended_at is not None and not place.control.is_dir():
            code = int(container["State"]["ExitCode"])
        return outcome_of(container["State"], code=code, started_at=started_at, ended_at=ended_at)

    async def _wait_for_stop(self, place: Place) -> None:
        try:
            await self._client.call("POST", f"/containers/{segment(place.name)}/wait", timeout_s=FOREVER)
        except RefusedError as error:
            if error.status not in GONE:
                raise

    async def _times(self, place: Place) -> tuple[datetime | None, datetime | None]:
        return await written_at(self._client, place, STARTED), await written_at(self._client, place, EXIT)

    async def _engine_log(self, place: Place, position: int) -> AsyncGenerator[LogChunk, None]:
        """Follow the log while the container runs, then read it once more as a whole: following may miss what came last.

        (Docker 20.10 stops following a log of the driver `local` before the entry that the end of the output makes.)
        """
        patience = Patience(self._reconnect_s)
        followed = False
        while True:
            try:
                container = await inspect(self._client, place.name)
                patience.heard()
                if container is None:
                    return
                running = is_running(container)
                if running and followed:
                    await asyncio.sleep(FOLLOW_PAUSE_S)
                async with aclosing(self._read_log(place, position, follow=running)) as chunks:
                    async for chunk in chunks:
                        position = chunk.position
                        yield chunk
                if not running:
                    return
                followed = True
            except RefusedError as error:
                if error.status in GONE:
                    return
                raise
            except EngineUnavailableError as error:
                await patience.pause(error)

    async def _read_log(self, place: Place, position: int, *, follow: bool) -> AsyncGenerator[LogChunk, None]:
        path = f"/containers/{segment(place.name)}/logs"
        query = {"follow": "true" if follow else "false", "stdout": "true", "stderr": "true"}
        response = await self._client.stream("GET", path, query=query)
        frames = Demultiplexer()
        at = 0
        try:
            async with aclosing(response.chunks()) as parts:
                async for data in parts:
                    payload = frames.feed(data)
                    at += len(payload)
                    if at > position:
                        yield LogChunk(datetime.now(UTC), payload[position - at :], at)
                        position = at
        finally:
            response.close()
