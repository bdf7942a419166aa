"""`@frozen` beside the standard library's `dataclass(frozen=True, slots=True)`."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from stretto.core.frozen import frozen


def make_point(decorate: Callable[[type], type]) -> Any:
    """Return a class with a value, a default and a default factory."""

    class Point:
        """A place."""

        x: int
        y: int = 2
        names: list[str] = dataclasses.field(default_factory=list)

    return decorate(Point)


OURS, THEIRS = make_point(frozen), make_point(dataclasses.dataclass(frozen=True, slots=True))


@frozen
class Base:
    """Has one value."""

    x: int


@frozen
class Derived(Base):
    """Has one more."""

    y: str = ""


@frozen
class Nothing:
    """Has no values."""


@pytest.mark.parametrize("make", [lambda cls: cls(1), lambda cls: cls(1, names=["a"]), lambda cls: cls(x=1, y=3)])
def test_frozen_holds_and_shows_what_dataclass_does(make: Callable[[Any], Any]) -> None:
    """Positions, names, defaults and factories give the same values and the same text."""
    ours, theirs = make(OURS), make(THEIRS)
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert repr(ours) == repr(theirs)
    assert OURS.__match_args__ == THEIRS.__match_args__
    assert not hasattr(ours, "__dict__")


@pytest.mark.parametrize("call", [lambda cls: cls(), lambda cls: cls(1, z=2), lambda cls: cls(1, 2, [], 4)])
def test_frozen_refuses_the_calls_that_dataclass_refuses(call: Callable[[Any], Any]) -> None:
    """A value too few, an unknown name and a value too many are TypeErrors."""
    for cls in (OURS, THEIRS):
        with pytest.raises(TypeError):
            call(cls)


def test_frozen_makes_a_list_of_its_own_for_each_instance() -> None:
    """A default factory is called for each instance."""
    assert OURS(1).names is not OURS(1).names


def test_frozen_values_never_change() -> None:
    """Setting and deleting are refused, of fields and of anything else."""
    point = OURS(1)
    for name in ("x", "other"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(point, name, 5)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(point, name)
    assert point.x == 1


def test_frozen_compares_and_hashes_by_class_and_values() -> None:
    """The same values of the same class are one; those of a base are not, and neither are other values."""
    assert Derived(1, "a") == Derived(1, "a")
    assert hash(Derived(1, "a")) == hash(Derived(1, "a"))
    assert Derived(1, "a") != Derived(1, "b")
    assert Derived(1) != Base(1)
    assert Base(1) != 1
    assert {Nothing(), Nothing()} == {Nothing()}
    with pytest.raises(TypeError):
        hash(OURS(1))  # of a list


def test_frozen_can_be_replaced_and_copied() -> None:
    """`replace` and `copy` give instances with the same values."""
    assert dataclasses.replace(Derived(1, "a"), y="b") == Derived(1, "b")
    deep = copy.deepcopy(point := OURS(1, names=["a"]))
    assert (deep, copy.copy(point)) == (point, point)
    assert deep.names is not point.names


def test_frozen_keeps_methods_that_the_class_has_of_its_own() -> None:
    """A `__repr__` of the class's own is not replaced."""

    @frozen
    class Secret:
        """Is not shown."""

        text: str

        def __repr__(self) -> str:
            return "***"

    assert repr(Secret("a")) == "***"
