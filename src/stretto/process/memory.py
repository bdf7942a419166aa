"""A repository in memory: for tests, and for work that may be lost with the process. Safe to use from several threads."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from stretto.process.data import Metadata
from stretto.process.metadata import copy_json
from stretto.process.repository import IRepository


class _Table:
    """Records by uuid, in the order they were saved, and which of them have which value in which field."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self._places: dict[str, int] = {}
        self._having: defaultdict[tuple[str, Hashable], set[str]] = defaultdict(set)

    def put(self, uuid: str, record: dict[str, Any] | None) -> None:
        """Set or, with None, take away the record."""
        for field, value in self.records.pop(uuid, {}).items():
            if isinstance(value, Hashable):
                self._having[field, value].discard(uuid)
        if record is None:
            return
        self._places.setdefault(uuid, len(self._places))
        self.records[uuid] = record
        for field, value in record.items():
            if isinstance(value, Hashable):
                self._having[field, value].add(uuid)

    def all(self) -> list[dict[str, Any]]:
        """Return the records in the order they were saved."""
        return [self.records[uuid] for uuid in sorted(self.records, key=self._places.__getitem__)]

    def search(self, field: str, value: Hashable) -> list[dict[str, Any]]:
        """Return the records with this value, in the order they were saved."""
        return [self.records[uuid] for uuid in sorted(self._having[field, value], key=self._places.__getitem__)]


class _Database:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.tables = {model: _Table() for model in Metadata.TABLE_NAMES}
        self.claims: dict[str, tuple[str, float]] = {}
        self.undo: list[tuple[_Table, str, dict[str, Any] | None]] | None = None


class InMemoryRepository(IRepository):
    """All instances of one class share their records; a subclass has records of its own. It can claim, and has transactions."""

    _database = _Database()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._database = _Database()

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._table = self._database.tables[model]

    def get(self, uuid: str) -> dict[str, Any] | None:
        """Return a copy of the record, or None."""
        with self._database.lock:
            record = self._table.records.get(uuid)
            return None if record is None else copy_json(record)

    def save(self, data: dict[str, Any]) -> None:
        """Add a copy of the record; KeyError if there is one of its uuid."""
        with self._database.lock:
            if data["uuid"] in self._table.records:
                raise KeyError(f"there is a record {data['uuid']} already")
            self._put(data["uuid"], copy_json(data))

    def update(self, uuid: str, data: dict[str, Any]) -> None:
        """Set the fields of the record; KeyError if there is none."""
        with self._database.lock:
            self._put(uuid, {**self._table.records[uuid], **copy_json(data)})

    def search(self, filter: list[str | list[Any]]) -> list[dict[str, Any]]:
        """Return copies of the records whose field has the value, in the order they were saved."""
        field, value = filter
        if not (isinstance(field, str) and isinstance(value, Hashable)):
            raise TypeError(f"filter is {filter!r}; it must be a field and a plain value")
        with self._database.lock:
            return [copy_json(record) for record in self._table.search(field, value)]

    def claim(self, uuid: str, owner: str, lease_s: float) -> bool:
        """Take the pipeline, or keep it for longer; False while another owner has it."""
        now = time.monotonic()
        with self._database.lock:
            holder, until = self._database.claims.get(uuid, (owner, 0.0))
            if holder != owner and until > now:
                return False
            self._database.claims[uuid] = (owner, now + lease_s)
            return True

    def release(self, uuid: str, owner: str) -> None:
        """Give the pipeline back."""
        with self._database.lock:
            if self._database.claims.get(uuid, ("", 0.0))[0] == owner:
                del self._database.claims[uuid]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all that is written in the block, or nothing when an exception leaves it. Other threads wait meanwhile."""
        database = self._database
        with database.lock:
            database.undo = []
            try:
                yield
            except BaseException:
                for table, uuid, record in reversed(database.undo):
                    table.put(uuid, record)
                raise
            finally:
                database.undo = None

    def _put(self, uuid: str, record: dict[str, Any]) -> None:
        if self._database.undo is not None:
            self._database.undo.append((self._table, uuid, self._table.records.get(uuid)))
        self._table.put(uuid, record)
