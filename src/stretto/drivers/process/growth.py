"""Tells those who follow a log that it has grown.

One sweep looks at the sizes of all followed files. It comes often while something grows and ever less often while nothing does:
a line is seen within milliseconds on a busy log, and idle logs cost next to nothing, however many they are. None of the
kernel's own file watches is used up, of which a user has few.
"""

from __future__ import annotations

import asyncio
import os


class Growth:
    """The followed files. Any number of tasks at once, of one loop."""

    def __init__(self, delay_min_s: float, delay_max_s: float) -> None:
        self._delay_min_s = delay_min_s
        self._delay_max_s = delay_max_s
        self._delay_s = delay_min_s
        self._followers: dict[asyncio.Future[None], tuple[str, int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, path: str, size: int, over: asyncio.Future[int | None]) -> None:
        """Come back when the file is larger than `size`, or `over` is done."""
        loop = asyncio.get_running_loop()
        change: asyncio.Future[None] = loop.create_future()

        def wake(_: asyncio.Future[int | None]) -> None:
            if not change.done():
                change.set_result(None)

        over.add_done_callback(wake)
        self._followers[change] = (path, size)
        self._pace(loop, self._delay_min_s)
        try:
            await change
        finally:
            del self._followers[change]
            over.remove_done_callback(wake)
            if not self._followers and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _pace(self, loop: asyncio.AbstractEventLoop, delay_s: float) -> None:
        """Have the next sweep after `delay_s`, or sooner if it is due sooner."""
        self._delay_s = delay_s
        due = loop.time() + delay_s
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(due, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        grown = [change for change, (path, size) in self._followers.items() if size_of(path) > size]
        for change in grown:
            if not change.done():
                change.set_result(None)
        if self._followers:
            self._pace(loop, self._delay_min_s if grown else min(self._delay_s * 2, self._delay_max_s))


def size_of(path: str) -> int:
    """Return the file's size, 0 where it is not there (yet or any more)."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a sweep of many files is to cost next to nothing
    except FileNotFoundError:
        return 0
