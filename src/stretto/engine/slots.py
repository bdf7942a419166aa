"""How many attempts may run at once. Counts, nothing more: who gets a free slot is decided by who asks first."""

from __future__ import annotations

from collections.abc import Callable


class Slots:
    """A number of places, shared by the runs of one conductor. Not for use from several threads."""

    def __init__(self, total: int) -> None:
        if total < 1:
            raise ValueError("there must be at least one slot")
        self.total = total
        self.used = 0
        self._waiting: dict[Callable[[], None], None] = {}

    @property
    def free(self) -> int:
        """How many may be taken now; never below 0."""
        return max(0, self.total - self.used)

    def take(self, count: int) -> None:
        """Take places. An attempt adopted after a restart takes one even where none is free: it runs already."""
        self.used += count

    def give_back(self, count: int) -> None:
        """Give places back and wake who wanted one."""
        self.used -= count
        waiting, self._waiting = self._waiting, {}
        for wake in waiting:
            wake()

    def wake_me(self, wake: Callable[[], None]) -> None:
        """Call `wake` once, when a place may have become free."""
        self._waiting[wake] = None
