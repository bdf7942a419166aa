"""Where pipelines and steps are kept: four methods anybody can write over any database, and three that are optional.

A repository class (or any callable) is called with a model, `Metadata.PIPELINES_MODEL` or `Metadata.STEP_MODEL`, once for each
of the two per pass. Its methods are called with keywords.

Optional, used where the class has them:

* `claim(uuid, owner, lease_s)` and `release(uuid, owner)`, both, of the pipelines' repository: without them nothing keeps two
  orchestrators from running the same step at once.
* `transaction()`, of the pipelines' repository: a context manager; what is written in it, through either model, is kept
  altogether or, when an exception leaves it, not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable


class Repository(Protocol):
    """The four methods. Calls come one at a time per instance; several instances and processes may use one database."""

    def get(self, uuid: str) -> Mapping[str, Any] | None:
        """Return the record with this uuid as last written, or None."""

    def save(self, data: dict[str, Any]) -> object:
        """Add the record; what is returned is not looked at."""

    def update(self, uuid: str, data: dict[str, Any]) -> object:
        """Replace the record's fields by those of `data`, which are always all of them."""

    def search(self, filter: list[str | list[Any]]) -> Sequence[Mapping[str, Any]]:
        """Return all records whose field (`filter[0]`) equals the value (`filter[1]`), in the order they were saved."""


RepositoryClass = Callable[[str], Repository]
"""Called with a model; a class with `__init__(self, model)`, or any other callable that returns a repository."""


@runtime_checkable
class Claiming(Protocol):
    """A repository that can keep orchestrators from carrying one pipeline on at once."""

    def claim(self, uuid: str, owner: str, lease_s: float) -> bool:
        """Take the pipeline for `owner` for so many seconds, or take it for longer; False while another has it. Atomic."""

    def release(self, uuid: str, owner: str) -> object:
        """Give it back; nothing happens where `owner` does not have it."""


@runtime_checkable
class Transactional(Protocol):
    """A repository that can write several records at once."""

    def transaction(self) -> AbstractContextManager[object]:
        """Return a context manager around writes of both models that belong together; never entered within itself."""


class IRepository:
    """What repositories may derive from; they need not. `model` is the one it was made for."""

    model: str

    def __init__(self, model: str) -> None:
        self.model = model

    def get(self, uuid: str) -> Mapping[str, Any] | None:
        """Return the record with this uuid as last written, or None."""
        raise NotImplementedError(f"{type(self).__name__} lacks get(uuid)")

    def save(self, data: dict[str, Any]) -> object:
        """Add the record."""
        raise NotImplementedError(f"{type(self).__name__} lacks save(data)")

    def update(self, uuid: str, data: dict[str, Any]) -> object:
        """Replace the record's fields by those of `data`, which are always all of them."""
        raise NotImplementedError(f"{type(self).__name__} lacks update(uuid, data)")

    def search(self, filter: list[str | list[Any]]) -> Sequence[Mapping[str, Any]]:
        """Return all records whose field (`filter[0]`) equals the value (`filter[1]`), in the order they were saved."""
        raise NotImplementedError(f"{type(self).__name__} lacks search(filter)")
