"""Reads jobs' output while they run, line by line, for the people who watch."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from stretto.core import events as ev
from stretto.core.errors import StrettoError
from stretto.core.run import Run
from stretto.doors.cli.text import output_line
from stretto.waist import LogRequest, Waist

log = logging.getLogger(__name__)

MAX_LINE_BYTES: Final = 64 * 1024
"""A longer line is shown in pieces; the log itself has it whole."""
MAX_FOLLOWED: Final = 32
"""How many jobs' outputs are followed at once on a terminal that has no more lines anyway."""


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of a stream of bytes, without line ends; a last line without one too."""
    rest = b""
    async for data in chunks:
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > MAX_LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


async def tail(waist: Waist, request: LogRequest, count: int) -> list[str]:
    """Return the last lines of an attempt's output, fit to be shown among our own."""
    last: deque[bytes] = deque(maxlen=count)
    async for line in lines(waist.logs(request)):
        last.append(line)
    return [output_line(line) for line in last]


class Follower:
    """Follows the output of every attempt that starts, and hands each line on as `show(job, line)`."""

    def __init__(self, waist: Waist, run: str, group: asyncio.TaskGroup, show: Callable[[str, str], None]) -> None:
        self._waist = waist
        self._run = run
        self._group = group
        self._show = show
        self._tasks: set[asyncio.Task[None]] = set()

    def see(self, run: Run, events: Sequence[ev.Event]) -> None:
        """Begin to follow what just started."""
        for event in events:
            if isinstance(event, ev.AttemptStarted) and len(self._tasks) < MAX_FOLLOWED:
                task = self._group.create_task(self._follow(event.job, event.number), name=f"follow {event.job}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def finish(self, timeout_s: float) -> None:
        """Wait for the last lines of what is over; what is not over by then is let go."""
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=timeout_s)
            for task in late:
                task.cancel()

    async def _follow(self, job: str, number: int) -> None:
        request = LogRequest(self._run, job, number, follow=True)
        try:
            async for line in lines(self._waist.logs(request)):
                self._show(job, output_line(line))
        except StrettoError as error:
            log.info("output not followed", extra={"job": job, "error": error.message})
