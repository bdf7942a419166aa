"""The suite for repositories of processes: on the ones we have, and on broken ones, each of which it must refuse."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from stretto.process import InMemoryRepository, RepositoryClass, testing
from stretto.process.testing import RepositoryConformance
from tests.support.process import Plain, tinydb_repository


class TestInMemory(RepositoryConformance):
    """The repository in memory, which has the optional methods."""

    @pytest.fixture
    def repository_class(self) -> RepositoryClass:
        """A class of its own, so records of its own."""
        return type("Fresh", (InMemoryRepository,), {})


@pytest.mark.filterwarnings("ignore::ResourceWarning")
class TestTinyDB(RepositoryConformance):
    """The documented repository over TinyDB, with types."""

    @pytest.fixture
    def repository_class(self, tmp_path: Path) -> RepositoryClass:
        """One over a file that isn't there yet."""
        return tinydb_repository(tmp_path / "database.json")


class TestFourMethods(RepositoryConformance):
    """A class that derives from nothing and has nothing optional."""

    @pytest.fixture
    def repository_class(self) -> RepositoryClass:
        """An empty one."""
        return Plain()


class Sound(InMemoryRepository):
    """What the broken ones below are made of."""


class ForgetsMetadata(Sound):
    """Saves a record without what is nested in its metadata."""

    def save(self, data: dict[str, Any]) -> None:
        """Add a shallow part of the record."""
        flat = {key: value for key, value in data["metadata"].items() if not isinstance(value, dict)}
        super().save({**data, "metadata": flat})


class RaisesForUnknown(Sound):
    """Raises for a uuid that it does not know."""

    def get(self, uuid: str) -> dict[str, Any]:
        """Return the record."""
        found = super().get(uuid)
        if found is None:
            raise KeyError(uuid)
        return found


class ReturnsAnEmptyRecord(Sound):
    """Returns an empty record for a uuid that it does not know."""

    def get(self, uuid: str) -> dict[str, Any]:
        """Return the record."""
        return super().get(uuid) or {}


class MixesModels(Sound):
    """Keeps pipelines and steps in one table."""

    def __init__(self, model: str) -> None:
        super().__init__("PIPELINE")


class UpdatesAll(Sound):
    """Updates every record, as an UPDATE without WHERE does."""

    def update(self, uuid: str, data: dict[str, Any]) -> None:
        """Change them."""
        super().update(uuid, data)
        for other in list(self._table.records):
            super().update(other, {**data, "uuid": other})


class IgnoresUpdates(Sound):
    """Never changes a record."""

    def update(self, uuid: str, data: dict[str, Any]) -> None:
        """Change nothing."""


class MergesMetadata(Sound):
    """Merges metadata instead of replacing them."""

    def update(self, uuid: str, data: dict[str, Any]) -> None:
        """Change the record."""
        old = self.get(uuid) or {"metadata": {}}
        super().update(uuid, {**data, "metadata": {**old["metadata"], **data["metadata"]}})


class AddsOnUpdate(Sound):
    """Adds a record where there is none to update."""

    def update(self, uuid: str, data: dict[str, Any]) -> None:
        """Change or add it."""
        if self.get(uuid) is None:
            self.save(data)
        super().update(uuid, data)


class CachesSearches(Sound):
    """Answers a search as it did the first time."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._answers: dict[str, list[dict[str, Any]]] = {}

    def search(self, filter: list[str | list[Any]]) -> list[dict[str, Any]]:
        """Return what was found at first."""
        return self._answers.setdefault(repr(filter), super().search(filter))


class SortsByUuid(Sound):
    """Finds records in another order than they were saved in."""

    def search(self, filter: list[str | list[Any]]) -> list[dict[str, Any]]:
        """Return them sorted."""
        return sorted(super().search(filter), key=lambda record: str(record["uuid"]))


class MovesUpdatedToTheEnd(Sound):
    """Finds records in the order they were last written, as a table without an order may."""

    def update(self, uuid: str, data: dict[str, Any]) -> None:
        """Delete and add."""
        record = {**self._table.records[uuid], **copy.deepcopy(data)}
        self._table.put(uuid, None)
        self._table._places.pop(uuid)
        self._table._places[uuid] = max(self._table._places.values(), default=0) + 1
        self._table.put(uuid, record)


class FindsFifty(Sound):
    """Returns the first page only."""

    def search(self, filter: list[str | list[Any]]) -> list[dict[str, Any]]:
        """Return fifty."""
        return super().search(filter)[:50]


class FindsAll(Sound):
    """Looks at no filter."""

    def search(self, filter: list[str | list[Any]]) -> list[dict[str, Any]]:
        """Return everything."""
        return copy.deepcopy(list(self._table.records.values()))


class FindsByPrefix(Sound):
    """Compares the beginning only."""

    def search(self, filter: list[str | list[Any]]) -> list[dict[str, Any]]:
        """Return what begins like that."""
        field, value = filter
        return [copy.deepcopy(r) for r in self._table.records.values() if str(r[str(field)]).startswith(str(value))]


class IgnoresCase(Sound):
    """Compares as some databases do by default."""

    def search(self, filter: list[str | list[Any]]) -> list[dict[str, Any]]:
        """Return what is alike."""
        field, value = filter
        return [copy.deepcopy(r) for r in self._table.records.values() if r[str(field)].lower() == str(value).lower()]


class KeepsWhatItIsGiven(Sound):
    """Keeps the caller's dict itself."""

    def save(self, data: dict[str, Any]) -> None:
        """Add it."""
        self._put(data["uuid"], data)


class KeepsWhatItIsUpdatedWith(Sound):
    """Keeps the caller's dict itself on update."""

    def update(self, uuid: str, data: dict[str, Any]) -> None:
        """Set it."""
        if uuid not in self._table.records:
            raise KeyError(uuid)
        self._put(uuid, data)


class EachItsOwn(Sound):
    """Every instance has records of its own."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._table = type(self._table)()


class GivesToEverybody(Sound):
    """Claims mean nothing."""

    def claim(self, uuid: str, owner: str, lease_s: float) -> bool:
        """Say yes."""
        return True


class RefusesItsOwner(Sound):
    """A claim can't be renewed."""

    def claim(self, uuid: str, owner: str, lease_s: float) -> bool:
        """Say yes once."""
        return uuid not in self._database.claims and super().claim(uuid, owner, lease_s)


class ReleasesForAnybody(Sound):
    """Anybody may release a claim."""

    def release(self, uuid: str, owner: str) -> None:
        """Release it."""
        self._database.claims.pop(uuid, None)


class NeverReleases(Sound):
    """A claim stays until its time is over."""

    def release(self, uuid: str, owner: str) -> None:
        """Do nothing."""


class ClaimsForEver(Sound):
    """A claim has no end."""

    def claim(self, uuid: str, owner: str, lease_s: float) -> bool:
        """Take it for years."""
        return super().claim(uuid, owner, 1e9)


class LooksThenTakes(Sound):
    """Claims in two moves, between which others may come."""

    waiting = threading.Barrier(8)

    def claim(self, uuid: str, owner: str, lease_s: float) -> bool:
        """Look, then take."""
        is_free = uuid not in self._database.claims
        if owner.startswith("owner "):
            self.waiting.wait(timeout=10)
        if is_free:
            self._database.claims[uuid] = (owner, time.monotonic() + lease_s)
        return is_free


class HasNoRealTransactions(Sound):
    """Writes at once what is written in a transaction."""

    def transaction(self) -> Any:
        """Do nothing around it."""
        return nullcontext()


class LosesTransactions(Sound):
    """Undoes a transaction that was meant to be kept."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Undo it."""
        try:
            with super().transaction():
                yield
                raise LookupError
        except LookupError:
            pass


class SwallowsExceptions(Sound):
    """Undoes a transaction and does not say why."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Swallow what comes."""
        try:
            with super().transaction():
                yield
        except InterruptedError:
            pass


class TransactionsOfPipelinesOnly(Sound):
    """Undoes what was written of pipelines, not of steps."""

    def _put(self, uuid: str, record: dict[str, Any]) -> None:
        if self.model == "PIPELINE":
            super()._put(uuid, record)
        else:
            self._table.put(uuid, record)


BROKEN = Sound.__subclasses__()
TESTS = [name for name in vars(RepositoryConformance) if name.startswith("test_")]


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "PATIENCE_S", 0.3)


@cache
def refusals(broken: type[InMemoryRepository]) -> list[str]:
    """Return the names of the suite's tests that fail, over an empty database each."""
    refused = []
    for name in TESTS:
        try:
            getattr(RepositoryConformance(), name)(type(broken.__name__, (broken,), {}))
        except Exception:
            refused.append(name)
    return refused


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_suite_refuses_broken_repository(broken: type[InMemoryRepository]) -> None:
    """At least one test fails for each of these, over an empty database each."""
    assert refusals(broken)


def test_suite_accepts_what_they_are_made_of() -> None:
    """None fails for the sound one, so that the refusals come from what was broken."""
    assert len(TESTS) >= 15
    assert refusals(Sound) == []


def test_suite_needs_each_of_its_tests() -> None:
    """No test passes on everything."""
    used = {name for broken in BROKEN for name in refusals(broken)}
    assert used == set(TESTS)
