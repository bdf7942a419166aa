"""Lets many tasks that want the same thing at once share one call for it, and keeps a bounded amount of what came of it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Share(Generic[K, V]):
    """Results by key. Used by the tasks of one event loop; a task that is cancelled takes nothing from the others."""

    def __init__(self, limit: int) -> None:
        """`limit` is how much is kept, by the weight that `get` is given; 0: nothing, once it has come."""
        self._limit = limit
        self._calls: dict[K, asyncio.Task[V]] = {}
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._weight = 0

    async def get(self, key: K, call: Callable[[], Awaitable[V]], weigh: Callable[[V], int] = lambda value: 0) -> V:
        """Return what is kept under the key, or comes of the call that is under way for it, or of `call`."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        task = self._calls.get(key)
        if task is None:
            task = self._calls[key] = asyncio.create_task(self._call(key, call, weigh), name="shared call")
            task.add_done_callback(lambda done: self._end(key, done))
        return await asyncio.shield(task)

    def forget(self, key: K) -> None:
        """Have the next task that asks begin a call of its own."""
        self._calls.pop(key, None)

    async def close(self) -> None:
        """End the calls that are under way."""
        tasks = list(self._calls.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _call(self, key: K, call: Callable[[], Awaitable[V]], weigh: Callable[[V], int]) -> V:
        value = await call()
        weight = weigh(value)
        if 0 < weight <= self._limit:
            self._kept[key] = value, weight
            self._weight += weight
            while self._weight > self._limit:
                self._weight -= self._kept.popitem(last=False)[1][1]
        return value

    def _end(self, key: K, task: asyncio.Task[V]) -> None:
        if self._calls.get(key) is task:
            del self._calls[key]
        if not task.cancelled():
            task.exception()  # that nobody waited for it any more is no fault
