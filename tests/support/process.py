"""Repositories for tests of processes: TinyDB, four bare methods, and one whose process dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tinydb import TinyDB, where

from stretto.process import InMemoryRepository, IRepository, Metadata, RepositoryClass, SavedItem
from stretto.process.pipeline import PIPELINES
from stretto.process.step import STEPS


@contextmanager
def own_registry() -> Iterator[None]:
    """Let what is registered in the block be forgotten after it, and nothing be known in it."""
    before = dict(PIPELINES), dict(STEPS)
    PIPELINES.clear()
    STEPS.clear()
    try:
        yield
    finally:
        PIPELINES.clear()
        STEPS.clear()
        PIPELINES.update(before[0])
        STEPS.update(before[1])


def tinydb_repository(path: Path) -> RepositoryClass:
    """Return a repository class over a TinyDB file."""

    class TinyDBRepository(IRepository):
        def __init__(self, model: str) -> None:
            super().__init__(model)
            self._table = TinyDB(path).table(Metadata.TABLE_NAMES[model])

        def get(self, uuid: str) -> dict[str, Any] | None:
            found = self._table.get(where("uuid") == uuid)
            return dict(found) if isinstance(found, dict) else None

        def save(self, data: dict[str, Any]) -> SavedItem:
            return SavedItem(identifier=self._table.insert(data))

        def update(self, uuid: str, data: dict[str, Any]) -> None:
            self._table.update(data, where("uuid") == uuid)

        def search(self, filter: list[str | list[Any]]) -> list[dict[str, Any]]:
            field, value = filter
            return [dict(found) for found in self._table.search(where(str(field)) == value)]

    return TinyDBRepository


class Plain:
    """A database of four bare methods, or with `whole` the optional ones too: call it with a model.

    `calls` has `(model, method)` of every call.

    `before` is called with model, method and arguments before each call takes effect, `after` when it has: a test may raise
    there.
    """

    def __init__(self, *, whole: bool = False) -> None:
        class Records(InMemoryRepository):
            """Records of this database."""

        self._records = Records
        self._repository = WholeRepository if whole else PlainRepository
        self.calls: list[tuple[str, str]] = []
        self.opened: list[str] = []
        self.before: Callable[[str, str, dict[str, Any]], None] = lambda *_: None
        self.after: Callable[[str, str, dict[str, Any]], None] = lambda *_: None

    def __call__(self, model: str) -> PlainRepository:
        self.opened.append(model)
        return self._repository(self, model)

    def records(self, model: str) -> list[dict[str, Any]]:
        """Return all records of a model, in the order they were saved."""
        return self._records(model)._table.all()

    def change(self, model: str, uuid: str, **fields: Any) -> None:
        """Change a record behind everybody's back."""
        self._records(model).update(uuid, fields)

    def delete(self, model: str, uuid: str) -> None:
        """Delete a record behind everybody's back."""
        self._records(model)._table.put(uuid, None)

    def forget_claims(self) -> None:
        """Let all claims run out."""
        self._records._database.claims.clear()

    @property
    def in_transaction(self) -> bool:
        """Whether what is written now may still be undone."""
        return self._records._database.undo is not None

    def transaction(self) -> AbstractContextManager[None]:
        """Return a transaction."""
        return self._records("PIPELINE").transaction()

    def call(self, model: str, method: str, **arguments: Any) -> Any:
        """Do one call of the four."""
        self.calls.append((model, method))
        self.before(model, method, arguments)
        result = getattr(self._records(model), method)(**arguments)
        self.after(model, method, arguments)
        return result


class PlainRepository:
    """The four methods and no more; derives from nothing."""

    def __init__(self, database: Plain, model: str) -> None:
        self._database, self._model = database, model

    def get(self, uuid: str) -> dict[str, Any] | None:
        """Return a record."""
        found: dict[str, Any] | None = self._database.call(self._model, "get", uuid=uuid)
        return found

    def save(self, data: dict[str, Any]) -> None:
        """Add a record."""
        self._database.call(self._model, "save", data=data)

    def update(self, uuid: str, data: dict[str, Any]) -> None:
        """Change a record."""
        self._database.call(self._model, "update", uuid=uuid, data=data)

    def search(self, filter: list[str | list[Any]]) -> list[dict[str, Any]]:
        """Return records."""
        found: list[dict[str, Any]] = self._database.call(self._model, "search", filter=filter)
        return found


class WholeRepository(PlainRepository):
    """The optional methods besides."""

    def claim(self, uuid: str, owner: str, lease_s: float) -> bool:
        """Take a pipeline."""
        taken: bool = self._database.call(self._model, "claim", uuid=uuid, owner=owner, lease_s=lease_s)
        return taken

    def release(self, uuid: str, owner: str) -> None:
        """Give it back."""
        self._database.call(self._model, "release", uuid=uuid, owner=owner)

    def transaction(self) -> AbstractContextManager[None]:
        """Write altogether or not at all."""
        return self._database.transaction()
