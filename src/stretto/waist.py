"""The waist: everything a door can ask for, as data and one Protocol. The doors know this and reports, and nothing beneath.

Methods are short; what they join is in `definitions`, `sources`, `store`, `engine` and `reports`. Every reference to a run is
its number or its id (or an unambiguous start of it), as text.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from stretto.core.events import Artifact, Event
from stretto.core.frozen import frozen
from stretto.core.ports import RunFilter, RunRow
from stretto.core.run import Run
from stretto.core.spec import RunSpec
from stretto.reports.model import Report

Watcher = Callable[[Run, Sequence[Event]], None]
"""Called with the run and the events that were just put on disk; must not block."""


@frozen
class RunRequest:
    """What somebody wants to run.

    `repository` None is the one that holds `directory`; `file` is a path within the repository at the commit; `pipelines`
    are names, needed where the repository has several; `overrides` are `KEY=VALUE` texts; `driver` None takes the setting.
    `working_tree` runs the files as they are now, untracked ones included, instead of a commit.
    """

    repository: str | None = None
    directory: Path = field(default_factory=Path.cwd)
    branch: str | None = None
    commit: str | None = None
    file: str | None = None
    pipelines: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    driver: str | None = None
    working_tree: bool = False
    idempotency_key: str | None = None
    by: str = ""


@frozen
class LogRequest:
    """Which output is wanted: `attempt` None is the latest one of the job."""

    run: str
    job: str
    attempt: int | None = None
    follow: bool = False


@frozen
class StoredArtifact:
    """An artifact with the job and attempt that left it and where its bytes are on this host; a link has none: None."""

    job: str
    attempt: int
    artifact: Artifact
    path: Path | None


@frozen
class Swept:
    """What `gc` did or, in a dry run, would do: there `freed_bytes` is 0, as nothing was."""

    runs: int = 0
    attempts: int = 0
    freed_bytes: int = 0


class Waist(Protocol):
    """What a door holds; implemented by `service.Service` on this host."""

    async def compile(self, request: RunRequest) -> list[RunSpec]:
        """Return what would run; DefinitionError with all faults, SourceError. Stores nothing."""

    async def submit(self, request: RunRequest, *, stored: Callable[[RunRow], None] | None = None) -> list[RunRow]:
        """Store the runs that are asked for; all or none. Nothing starts before `conduct` (or a conductor) takes them.

        `stored` is called with each run that is on disk, also where the call is cancelled a moment too late.
        """

    async def has_changes(self, request: RunRequest) -> bool:
        """Say whether the working tree that is meant has changes which are not part of what `request` runs."""

    async def conduct(self, run: str, *, jobs: int | None = None, watch: Watcher | None = None) -> Report:
        """Take the run up, new or after a crash, and carry it to its end; RunBusyError while a live process owns it."""

    async def cancel(self, run: str, *, job: str | None = None, by: str = "", force: bool = False) -> RunRow:
        """Ask for the end of a run or one job of it; with `force`, without grace. InputError if it is over, NotFoundError.

        A run that no live process owns is taken up and ended here.
        """

    async def find_run(self, run: str) -> RunRow:
        """Return the run; NotFoundError."""

    async def list_runs(self, which: RunFilter) -> list[RunRow]:
        """Return the runs that match, newest first."""

    async def report(self, run: str) -> Report:
        """Return the report of a run as it stands."""

    def watch(self, run: str, after: int = 0) -> AsyncIterator[tuple[int, Event]]:
        """Yield the run's events after sequence number `after`, as they are recorded, until the run is over."""

    def logs(self, request: LogRequest) -> AsyncIterator[bytes]:
        """Yield an attempt's output as it was; with `follow`, until the attempt is over."""

    async def log_lines(self, request: LogRequest) -> list[tuple[datetime, bytes]]:
        """Return an attempt's lines, each with the time it came."""

    async def artifacts(self, run: str, *, job: str | None = None) -> list[StoredArtifact]:
        """Return what the run's jobs left."""

    async def gc(self, *, keep_days: float, max_bytes: int, dry_run: bool = False) -> Swept:
        """Delete final runs, trees and mirrors that are old or too many, and whatever no live run owns."""
