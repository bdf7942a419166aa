"""What a pipeline and a step have in common: a record in a repository, whose final status nothing changes."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic

from stretto.process.exception import MetadataException, RepositoryAnswerException
from stretto.process.metadata import MESSAGE, REASON, STARTING, copy_json, join, split
from stretto.process.provider import BaseProvider, Data
from stretto.process.repository import RepositoryClass
from stretto.process.session import LEASE_S, Session
from stretto.process.status import FINAL, STATUSES, Reason, Status

log = logging.getLogger(__name__)


class Record(ABC, Generic[Data]):
    """A record, its status and its metadata. `metadata` belongs to this instance, and is written after every hook."""

    uuid: str
    name: str = ""
    status: str
    metadata: dict[str, Any] = {}

    _repository_class: RepositoryClass
    _marks: dict[str, Any]
    _read_metadata: dict[str, Any] = {}
    """The metadata as they were read, to tell what was changed since."""
    _session: Session | None = None
    _lease_s: float = LEASE_S

    def finish(self) -> None:
        """Set the status `finished`, unless it is final already, and write it."""
        self._end(Status.FINISHED)

    def fail(self) -> None:
        """Set the status `failed`, unless it is final already, and write it."""
        self._end(Status.FAILED, Reason.REQUESTED, f"{self} was failed by a call of fail()")

    def cancel(self) -> None:
        """Set the status `cancelled`, unless it is final already, and write it."""
        self._end(Status.CANCELLED, Reason.REQUESTED, f"{self} was cancelled by a call of cancel()")

    @abstractmethod
    def to_dataclass(self) -> Data:
        """Return the record as it would be stored now; MetadataException."""

    @abstractmethod
    def _provider(self, session: Session) -> BaseProvider[Data]:
        """Return where records of this model are."""

    @abstractmethod
    def _missing(self) -> Exception:
        """Return what to raise where the repository has no record of this uuid."""

    @contextmanager
    def _open(self) -> Iterator[Session]:
        """Yield the session of the pass that goes on, or else a new one."""
        if self._session is not None:
            yield self._session
            return
        self._session = Session(self._repository_class, lease_s=self._lease_s)
        try:
            yield self._session
        finally:
            self._session = None

    def _adopt(self, data: Data) -> None:
        """Be what is on record."""
        if data.status not in STATUSES:
            raise RepositoryAnswerException(f"{type(self).__name__} {data.uuid} has the status {data.status!r:.80}")
        self.uuid, self.status = data.uuid, data.status
        self.metadata, self._marks = split(data.metadata)
        self._read_metadata = copy_json(self.metadata)

    def _stored_metadata(self) -> dict[str, Any]:
        return join(self.metadata, self._marks)

    def _end(self, status: str, reason: Reason | None = None, message: str = "") -> None:
        """Set a final status, with the reason that is known already or else this one."""
        if self.status in FINAL:
            if self.status != status:
                log.warning("status not changed: it is final", extra={"uuid": self.uuid, "status": self.status})
            return
        before = self.status, dict(self._marks)
        self.status = status
        if reason is None:
            self._forget_reason()
        elif self._marks.get(REASON, Reason.NO_ON_CONTINUE) == Reason.NO_ON_CONTINUE:
            self._explain(reason, message)
        self._marks.pop(STARTING, None)
        try:
            self._write()
        except BaseException:
            self.status, self._marks = before  # so that the call can be made again
            raise

    def _fail_because(self, reason: Reason, message: str) -> None:
        """End as failed for a reason of ours; metadata that can't be stored gives way to what is on record."""
        if self.status in FINAL:
            return
        try:
            self._stored_metadata()
        except MetadataException:
            with self._open() as session:
                stored = self._provider(session).get(self.uuid)
            self.metadata = split(stored.metadata)[0] if stored else {}
        self._explain(reason, message)
        self.fail()

    def _explain(self, reason: str, message: str) -> None:
        self._marks |= {REASON: str(reason), MESSAGE: message}

    def _forget_reason(self) -> None:
        self._marks.pop(REASON, None)
        self._marks.pop(MESSAGE, None)

    def _write(self) -> None:
        """Write what differs from the record. Where that is final by now, its status and reason are taken over.

        So are its metadata, unless they were changed here: others may have changed them since they were read.
        """
        mine = split(self._stored_metadata())[0]
        with self._open() as session:
            session.keep()
            with session.transaction():
                stored = self._provider(session).get(self.uuid)
                if stored is None:
                    raise self._missing()
                metadata, marks = split(stored.metadata)
                if mine == self._read_metadata:
                    self.metadata = metadata
                if stored.status in FINAL:
                    self.status, self._marks = stored.status, marks
                data = self.to_dataclass()
                if data != stored:
                    self._provider(session).update(self.uuid, data)
        self._read_metadata = copy_json(self.metadata)

    def __str__(self) -> str:
        return f"{self.name} {self.uuid}"
