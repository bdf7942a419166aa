"""An event loop whose time is virtual: it never waits, it jumps to the next timer. No I/O, no threads."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
TOO_LONG_S = 30 * 24 * 3600.0
"""Virtual time after which a history counts as stuck."""


class StuckError(AssertionError):
    """Nothing is left that could ever happen, and the work isn't done."""


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise StuckError(f"nothing can happen any more at {self.time} s")
        self.time += max(0.0, timeout)
        if self.time > TOO_LONG_S:
            raise StuckError(f"still not over after {self.time} s")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that sleeps in no time."""

    def __init__(self) -> None:
        self.virtual = _Selector()
        super().__init__(self.virtual)

    def time(self) -> float:
        """Return the virtual time, in seconds from 0."""
        return self.virtual.time


class VirtualClock:
    """`core.ports.Clock` by the virtual loop's time."""

    def now(self) -> datetime:
        """Return the virtual time as a date."""
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
