"""Slots: who gets the next place, told by plays of runs that want many."""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import pytest

from stretto.engine.slots import Claimant, Share, Slots


@dataclass(slots=True)
class Player:
    """A run that has `left` attempts to make, as a conductor would: it starts what it may, and waits for the rest."""

    slots: Slots
    claimant: Claimant
    left: int
    driver: str = "docker"
    used: int = 0
    started: list[str] = field(default_factory=list)
    woken: int = 0
    share: Share = field(init=False)

    def __post_init__(self) -> None:
        self.share = self.slots.join(self.claimant, self.wake)

    def wake(self) -> None:
        self.woken += 1

    def step(self) -> int:
        """Start what may start; return how many that was."""
        count = min(self.left, self.share.free(self.driver))
        self.left -= count
        self.used += count
        self.started += [self.claimant.run] * count
        self.share.settle(self.driver, used=self.used, wanted=self.left)
        return count

    def end_one(self) -> None:
        self.used -= 1
        self.share.give_back(self.driver)


def play(players: list[Player], ends: int, *, chance: random.Random | None = None) -> list[str]:
    """Let attempts end one by one, the oldest first or at random; return which run each place went to then, in order."""
    running: list[tuple[float, int, Player]] = []
    order: list[str] = []
    number = 0

    def settle() -> None:
        nonlocal number
        for player in players:
            for _ in range(player.step()):
                number += 1
                heapq.heappush(running, (chance.random() if chance else number, number, player))
                order.append(player.claimant.run)

    settle()
    for _ in range(ends):
        if not running:
            break
        heapq.heappop(running)[2].end_one()
        settle()
    return order


def test_slots_are_all_taken_where_nobody_else_waits() -> None:
    """One run alone takes every place, and one that needs none holds none."""
    slots = Slots(4)
    player = Player(slots, Claimant("a"), 10)
    assert player.step() == 4
    assert slots.join(Claimant("b"), lambda: None).free("docker") == 0


def test_wide_run_does_not_starve_a_narrow_one() -> None:
    """A run with one job that comes after a thousand others gets the next place that becomes free."""
    slots = Slots(4)
    wide, narrow = Player(slots, Claimant("wide"), 1000), Player(slots, Claimant("narrow"), 1)
    wide.step()
    assert narrow.step() == 0
    wide.end_one()
    assert narrow.woken == 1
    assert wide.step() == 0
    assert narrow.step() == 1


def test_places_go_to_the_user_with_fewest() -> None:
    """A user with three runs gets no more than one with a single run; whoever comes new is first."""
    slots = Slots(6)
    ada = [Player(slots, Claimant(f"ada {i}", user="ada"), 50) for i in range(3)]
    bob = [Player(slots, Claimant("bob", user="bob"), 50)]
    order = play([*ada, *bob], 60)
    shares = Counter(name.split()[0] for name in order[-40:])
    assert shares["ada"] in (19, 20, 21)
    each = [count for name, count in Counter(order[-40:]).items() if name != "bob"]
    assert max(each) - min(each) <= 1


def test_places_of_a_user_are_shared_between_pipelines_first() -> None:
    """Of one user's runs, five of one pipeline get together what the only one of another gets."""
    slots = Slots(4)
    many = [Player(slots, Claimant(f"many {i}", "ada", "many"), 50) for i in range(5)]
    one = Player(slots, Claimant("one", "ada", "one"), 50)
    order = play([*many, one], 80)
    assert Counter(name.split()[0] for name in order[-40:]) == {"many": 20, "one": 20}


def test_higher_priority_comes_first() -> None:
    """As long as a run of higher priority wants places it gets every one, whoever has fewer."""
    slots = Slots(2)
    low = Player(slots, Claimant("low", "ada"), 50)
    high = Player(slots, Claimant("high", "bob", priority=1), 6)
    order = play([low, high], 10)
    assert order == ["low"] * 2 + ["high"] * 6 + ["low"] * 4


def test_longest_waiting_comes_first_among_equals() -> None:
    """Runs that are alike in everything get places in turns, in the order in which they began to wait."""
    slots = Slots(1)
    players = [Player(slots, Claimant(f"{i}"), 4) for i in range(4)]
    assert play(players, 12) == ["0", *["0", "1", "2", "3"] * 3]


def test_drivers_have_places_of_their_own() -> None:
    """What runs on one driver takes no place of another; each may have its own number."""
    slots = Slots(2, {"process": 5})
    docker, process = Player(slots, Claimant("a"), 9), Player(slots, Claimant("b"), 9, driver="process")
    assert (docker.step(), process.step()) == (2, 5)


def test_adopted_attempts_take_places_that_are_not_there() -> None:
    """What runs already counts even beyond the total, and nothing starts before as many have ended."""
    slots = Slots(2)
    adopter = Player(slots, Claimant("adopter"), 1)
    adopter.used = 4
    adopter.share.settle("docker", used=4, wanted=0)
    other = Player(slots, Claimant("other"), 1)
    assert other.step() == 0
    for _ in range(2):
        adopter.end_one()
        assert other.step() == 0
    adopter.end_one()
    assert other.step() == 1


def test_leaving_gives_places_to_those_who_wait() -> None:
    """A run that goes gives back what it uses, what was set aside for it, and its turn."""
    slots = Slots(1)
    first, second, third = (Player(slots, Claimant(name), 1) for name in "abc")
    first.step(), second.step(), third.step()
    first.end_one()
    assert second.woken == 1
    second.share.leave()
    assert third.woken == 1
    assert third.step() == 1
    third.share.leave()
    assert slots.join(Claimant("d"), lambda: None).free("docker") == 1


def test_slots_must_be_some() -> None:
    """No slots at all would let nothing run, ever."""
    with pytest.raises(ValueError, match="at least one"):
        Slots(0)
    with pytest.raises(ValueError, match="at least one"):
        Slots(3, {"docker": 0})


@pytest.mark.parametrize("seed", range(30))
def test_every_place_is_used_and_none_twice(seed: int) -> None:
    """Whoever comes, goes and waits: as many run as there are places while anybody wants one, and all get their turn."""
    chance = random.Random(seed)
    total = chance.randint(1, 5)
    slots = Slots(total)
    players = [
        Player(
            slots,
            Claimant(str(i), chance.choice("ab"), chance.choice("pq"), chance.choice((0, 0, 0, 1))),
            chance.randint(0, 12),
        )
        for i in range(chance.randint(1, 8))
    ]
    wanted = {player.claimant.run: player.left for player in players}
    order: list[str] = []
    while any(player.left or player.used for player in players):
        for player in chance.sample(players, len(players)):
            if player.used and chance.random() < 0.5:
                player.end_one()
            order += [player.claimant.run] * player.step()
            assert sum(player.used for player in players) <= total
        for player in players:
            order += [player.claimant.run] * player.step()
        used = sum(player.used for player in players)
        assert used == total or not any(player.left for player in players)
    assert Counter(order) == {run: count for run, count in wanted.items() if count}


def test_giving_a_place_does_not_look_at_all_who_wait() -> None:
    """With twenty times as many runs that wait, a place costs nowhere near twenty times as much."""

    def cost_s(runs: int) -> float:
        slots, got, shares = Slots(8), [], []
        for i in range(runs):
            shares.append(slots.join(Claimant(str(i), f"user {i % 50}", f"p{i % 7}"), partial(got.append, i)))
            shares[i].settle("docker", used=int(i < 8), wanted=1000)
        began = time.perf_counter()
        i = 0
        for _ in range(2000):
            shares[i].settle("docker", used=1, wanted=1000)
            shares[i].give_back("docker")
            i = got.pop() if got else i  # who gives a place back is not told that it gets it again
        return time.perf_counter() - began

    small = min(cost_s(200) for _ in range(3))
    assert min(cost_s(4000) for _ in range(3)) < 5 * small
