"""How many attempts run at once on each driver, and who gets the next place that becomes free.

Runs of higher priority first; among those the user with the fewest attempts under way, of that user's pipelines the one with the
fewest, of its runs the one with the fewest; and where that is equal, whoever was given a place longest ago. So a run with a
thousand jobs delays a run with one by one job. Nobody is stopped for another, and where nobody waits, one run may take all.

Those who wait are in a tree of heaps (user, pipeline, run; one for each priority), so that to give a place takes the logarithm
of how many wait. Not for use from several threads.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Final

SLACK: Final = 8
"""How many stale entries a heap may hold beyond as many as it has members, before it is made anew."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """A run, and what its places count for. Of two runs the one with the higher `priority` comes first."""

    run: str
    user: str = ""
    pipeline: str = ""
    priority: int = 0


class Slots:
    """So many places on each driver: `total`, unless `totals` has another number for it."""

    def __init__(self, total: int, totals: Mapping[str, int] | None = None) -> None:
        if min([total, *(totals or {}).values()]) < 1:
            raise ValueError("there must be at least one slot")
        self._total = total
        self._totals = dict(totals or {})
        self._pools: dict[str, _Pool] = {}

    def join(self, claimant: Claimant, wake: Callable[[], None]) -> Share:
        """Return the share of a run; `wake` is called when a place was set aside for it."""
        return Share(self._pool, claimant, wake)

    def usage(self) -> dict[str, tuple[int, int]]:
        """Return for each driver that was asked for how many places are taken, and how many there are."""
        return {driver: pool.usage for driver, pool in self._pools.items()}

    def _pool(self, driver: str) -> _Pool:
        if driver not in self._pools:
            self._pools[driver] = _Pool(self._totals.get(driver, self._total))
        return self._pools[driver]


class Share:
    """What one run has of the places; to be told whenever that changes, and left at the end."""

    def __init__(self, pool: Callable[[str], _Pool], claimant: Claimant, wake: Callable[[], None]) -> None:
        self._pool = pool
        self._claimant = claimant
        self._wake = wake
        self._seats: dict[str, _Seat] = {}

    def free(self, driver: str) -> int:
        """Return how many more attempts may start on the driver now."""
        seat = self._seat(driver)
        return seat.held - seat.used + seat.pool.free

    def give_back(self, driver: str) -> None:
        """Give back the place of an attempt that ended; what was set aside meanwhile stays."""
        seat = self._seat(driver)
        seat.pool.change(seat, -1)

    def settle(self, driver: str, *, used: int, wanted: int) -> None:
        """Take note that `used` attempts are under way, and that `wanted` more would start if there were places.

        What was set aside and is not used goes to others. More may be under way than there are places: an attempt that was
        adopted takes one even where none is free.
        """
        seat = self._seat(driver)
        if (used, used, wanted) != (seat.used, seat.held, seat.wanted):
            seat.pool.settle(seat, used, wanted)

    def leave(self) -> None:
        """Give all places back and want none."""
        for driver in self._seats:
            self.settle(driver, used=0, wanted=0)

    def _seat(self, driver: str) -> _Seat:
        if driver not in self._seats:
            self._seats[driver] = _Seat(self._pool(driver), self._claimant, self._wake)
        return self._seats[driver]


@dataclass(slots=True, eq=False)
class _Seat:
    """A run at a pool: it has `held` places, of which it uses `used`, and wants `wanted` more."""

    pool: _Pool
    claimant: Claimant
    wake: Callable[[], None]
    held: int = 0
    used: int = 0
    wanted: int = 0
    since: int = 0
    path: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        who = self.claimant
        self.path = ((who.user,), (who.user, who.pipeline), (who.user, who.pipeline, who.run))


@dataclass(slots=True, eq=False)
class _Group:
    """Some who wait: users, the pipelines of a user, or the runs of a pipeline. `since` is when one of them got a place last."""

    since: int
    members: dict[tuple[str, ...], _Group | _Seat] = field(default_factory=dict)
    heap: list[tuple[int, int, tuple[str, ...]]] = field(default_factory=list)
    """Members by how many places they have and by `since`; what does not agree with these any more is stale."""

    def sort(self, name: tuple[str, ...], held: Mapping[tuple[str, ...], int]) -> None:
        """Put a member in its place."""
        heapq.heappush(self.heap, (held[name], self.members[name].since, name))
        if len(self.heap) > 2 * len(self.members) + SLACK:
            self.heap = [(held[name], member.since, name) for name, member in self.members.items()]
            heapq.heapify(self.heap)

    def first(self, held: Mapping[tuple[str, ...], int]) -> _Group | _Seat:
        """Return the member that is next. There always is one: a group whose last member goes, goes too."""
        while True:
            places, since, name = self.heap[0]
            member = self.members.get(name)
            if member is not None and (places, since) == (held[name], member.since):
                return member
            heapq.heappop(self.heap)


class _Pool:
    """The places on one driver."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._held: Counter[tuple[str, ...]] = Counter()
        self._waiting: dict[int, _Group] = {}
        self._ticket = count(1)

    @property
    def usage(self) -> tuple[int, int]:
        """How many places are taken, and how many there are."""
        return self._taken, self._total

    @property
    def free(self) -> int:
        """How many places nobody has; while there are any, nobody waits."""
        return max(0, self._total - self._taken)

    def change(self, seat: _Seat, used: int) -> None:
        """Change by `used` how many places a seat uses."""
        seat.used += used
        self._count(seat, used)
        self._share_out(seat)

    def settle(self, seat: _Seat, used: int, wanted: int) -> None:
        """Change what a seat has and wants."""
        if wanted and not seat.wanted:
            self._add(seat)
        elif seat.wanted and not wanted:
            self._drop(seat)
        seat.used, seat.wanted = used, wanted
        self._count(seat, used - seat.held)
        self._share_out(seat)

    def _share_out(self, seat: _Seat) -> None:
        """Give the places that are free now to those who wait; `seat` is where this is known without being told."""
        while self.free and self._waiting:
            found: _Group | _Seat = self._waiting[max(self._waiting)]
            while isinstance(found, _Group):
                found = found.first(self._held)
            self._give(found)
            if found is not seat:
                found.wake()

    def _give(self, seat: _Seat) -> None:
        """Set a place aside for one who waits."""
        group: _Group | _Seat = self._waiting[seat.claimant.priority]
        for name in seat.path:
            assert isinstance(group, _Group)
            group = group.members[name]
            group.since = next(self._ticket)
        self._count(seat, 1)
        seat.wanted -= 1
        if not seat.wanted:
            self._drop(seat)

    def _count(self, seat: _Seat, change: int) -> None:
        """Change how many places a seat has, and sort anew what is sorted by that."""
        if not change:
            return
        seat.held += change
        self._taken += change
        for name in seat.path:
            self._held[name] += change
            if not self._held[name]:
                del self._held[name]
        for group in self._waiting.values():
            member: _Group | _Seat = group
            for name in seat.path:
                if not isinstance(member, _Group) or name not in member.members:
                    break
                member.sort(name, self._held)
                member = member.members[name]

    def _add(self, seat: _Seat) -> None:
        """Let a seat wait."""
        group = self._waiting.setdefault(seat.claimant.priority, _Group(0))
        *groups, last = seat.path
        for name in groups:
            if name not in group.members:
                group.members[name] = _Group(next(self._ticket))
                group.sort(name, self._held)
            below = group.members[name]
            assert isinstance(below, _Group)
            group = below
        seat.since = next(self._ticket)
        group.members[last] = seat
        group.sort(last, self._held)

    def _drop(self, seat: _Seat) -> None:
        """Let a seat wait no more, and leave no group without members."""
        priority = seat.claimant.priority
        groups = [self._waiting[priority]]
        for name in seat.path[:-1]:
            below = groups[-1].members[name]
            assert isinstance(below, _Group)
            groups.append(below)
        for group, name in zip(reversed(groups), reversed(seat.path), strict=True):
            del group.members[name]
            if group.members:
                return
        del self._waiting[priority]
