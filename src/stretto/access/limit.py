"""How often somebody may ask: token buckets in memory, one per name. Each process of a server counts for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_FORGET_AT: Final = 10_000
"""Buckets kept at most before those that are full again are dropped."""


class Limit:
    """`per_minute` requests in a minute for each name, after a burst of as many; 0 means no limit."""

    def __init__(self, per_minute: int, now_s: Callable[[], float]) -> None:
        self._capacity = float(per_minute)
        self._now_s = now_s
        self._buckets: dict[str, tuple[float, float]] = {}
        """Name -> how much was left, and when."""

    def take(self, name: str) -> float:
        """Count one request; return 0 if it is allowed, else in how many seconds the next one is. A refused one costs nothing."""
        if not self._capacity:
            return 0.0
        left, now_s = self._left(name), self._now_s()
        if left < 1:
            return (1 - left) * 60 / self._capacity
        if name not in self._buckets and len(self._buckets) >= _FORGET_AT:
            self._forget()
        self._buckets[name] = (left - 1, now_s)
        return 0.0

    def _left(self, name: str) -> float:
        left, at_s = self._buckets.get(name, (self._capacity, 0.0))
        return min(self._capacity, left + max(0.0, self._now_s() - at_s) * self._capacity / 60)

    def _forget(self) -> None:
        """Drop the buckets that are full, or all where none is: then somebody invents names."""
        self._buckets = {name: it for name, it in self._buckets.items() if self._left(name) < self._capacity}
        if len(self._buckets) >= _FORGET_AT:
            self._buckets.clear()
