"""Both models of a repository, opened for one pass over one pipeline; with its claim and transactions where there are any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from stretto.process.data import Metadata
from stretto.process.exception import ClaimLostException, RepositoryAnswerException
from stretto.process.provider import PipelineProvider, StepProvider, call, open_repository
from stretto.process.repository import Claiming, Repository, RepositoryClass, Transactional

LEASE_S = 300.0
"""How long a claim lasts that is not renewed; a hook that takes longer may find its pipeline taken."""


class Opened:
    """A repository class whose two models are opened once, for all pipelines of a pass."""

    def __init__(self, repository_class: RepositoryClass | None) -> None:
        self._repositories: dict[str, Repository] = {
            model: open_repository(repository_class, model) for model in (Metadata.PIPELINES_MODEL, Metadata.STEP_MODEL)
        }

    def __call__(self, model: str) -> Repository:
        return self._repositories[model]


class Session:
    """What one pass over one pipeline reads and writes with."""

    def __init__(self, repository_class: RepositoryClass | None, *, lease_s: float = LEASE_S) -> None:
        self.pipelines = PipelineProvider(repository_class)
        self.steps = StepProvider(repository_class)
        self._lease_s = lease_s
        self._owner = str(uuid4())
        self._claimed: str | None = None
        self._in_transaction = False

    @contextmanager
    def claim(self, uuid: str) -> Iterator[bool]:
        """Hold the pipeline; yields False where another has it. A repository that can't claim gives it to anybody."""
        repository = self._claiming()
        if repository is None or self._claimed:
            yield True
            return
        if not self._take(repository, uuid):
            yield False
            return
        self._claimed = uuid
        try:
            yield True
        finally:
            self._claimed = None
            call(repository.release, uuid=uuid, owner=self._owner)

    def keep(self) -> None:
        """Renew the claim, before something is written that needs it; ClaimLostException. Not within a transaction."""
        repository = self._claiming()
        if repository is None or self._claimed is None or self._in_transaction:
            return
        if not self._take(repository, self._claimed):
            raise ClaimLostException(
                f"pipeline {self._claimed} was taken by another orchestrator",
                hint="make lease_s longer than its longest on_start or on_continue",
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write altogether or not at all, where the repository can; one within another is part of it."""
        repository = self.pipelines.repository
        if self._in_transaction or not _offers(repository, Transactional):
            yield
            return
        manager = call(repository.transaction)  # type: ignore[attr-defined]  # `_offers` has looked
        if not (hasattr(manager, "__enter__") and hasattr(manager, "__exit__")):
            raise RepositoryAnswerException(f"transaction() returned {manager!r:.80}; it must return a context manager")
        call(manager.__enter__)
        self._in_transaction = True
        try:
            yield
        except BaseException as error:
            self._in_transaction = False
            call(manager.__exit__, type(error), error, error.__traceback__)
            raise
        self._in_transaction = False
        call(manager.__exit__, None, None, None)

    def _claiming(self) -> Claiming | None:
        repository = self.pipelines.repository
        return repository if isinstance(repository, Claiming) and _offers(repository, Claiming) else None

    def _take(self, repository: Claiming, uuid: str) -> bool:
        taken = call(repository.claim, uuid=uuid, owner=self._owner, lease_s=self._lease_s)
        if not isinstance(taken, bool):
            raise RepositoryAnswerException(f"claim() returned {taken!r:.80}; it must return True or False")
        return taken


def _offers(repository: object, methods: type[object]) -> bool:
    """Return whether the repository's class has the optional methods: a stand-in that has every name offers nothing."""
    return issubclass(type(repository), methods)
