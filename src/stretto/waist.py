"""The waist: everything a door can ask for, as data and one Protocol. The doors know this and reports, and nothing beneath.

Methods are short; what they join is in `definitions`, `sources`, `store`, `engine` and `reports`. Every reference to a run is
its number or its id (or an unambiguous start of it), as text.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

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
    `working_tree` runs the files as they are now, untracked ones included, instead of a commit. `definition` is the text of a
    definition file to use instead of the repository's. `upload` is the id of a tree that was uploaded to a server, which is
    then the repository, and says itself which branch and commit it is.
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
    definition: str | None = None
    upload: str | None = None
    priority: int = 0
    idempotency_key: str | None = None
    by: str = ""


_TEXTS: Final = ("repository", "branch", "commit", "file", "driver", "definition", "upload")


def request_to_json(request: RunRequest) -> dict[str, Any]:
    """Return the request as JSON data, for another process: without the directory, which means nothing there.

    Key and name of who asks are not part of it: they are kept beside it.
    """
    data: dict[str, Any] = {name: value for name in _TEXTS if (value := getattr(request, name)) is not None}
    data |= {name: list(value) for name in ("pipelines", "overrides") if (value := getattr(request, name))}
    if request.variables:
        data["variables"] = dict(request.variables)
    if request.priority:
        data["priority"] = request.priority
    return data


def request_from_json(data: Mapping[str, Any], *, by: str = "", idempotency_key: str | None = None) -> RunRequest:
    """Return the request that `request_to_json` made the data of."""
    texts: dict[str, Any] = {name: data.get(name) for name in _TEXTS}
    return RunRequest(
        **texts,
        pipelines=tuple(data.get("pipelines", ())),
        overrides=tuple(data.get("overrides", ())),
        variables=data.get("variables", {}),
        priority=data.get("priority", 0),
        by=by,
        idempotency_key=idempotency_key,
    )


@frozen
class LogRequest:
    """Which output is wanted, from byte `offset` on: `attempt` None is the latest one of the job."""

    run: str
    job: str
    attempt: int | None = None
    follow: bool = False
    offset: int = 0


@frozen
class StoredArtifact:
    """An artifact with the job and attempt that left it and where its bytes are on this host, None if nowhere.

    `run` is the id of its run.
    """

    job: str
    attempt: int
    artifact: Artifact
    path: Path | None
    run: str = ""


def artifact_to_json(it: StoredArtifact) -> dict[str, Any]:
    """Return the artifact as JSON data, as every door shows it."""
    artifact = it.artifact
    return {
        "job": it.job,
        "attempt": it.attempt,
        "path": artifact.path,
        "size_bytes": artifact.size_bytes,
        "digest": artifact.digest,
        "executable": artifact.executable,
        "link": artifact.link,
    }


@frozen
class Swept:
    """What `gc` did or, in a dry run, would do: there `freed_bytes` is 0, as nothing was."""

    runs: int = 0
    attempts: int = 0
    freed_bytes: int = 0


class Waist(Protocol):
    """What a door holds; implemented by `service.Service` on this host and by `client.Client` for a server.

    `is_server` says that runs go on without whoever submitted them: a server's conductors carry them.
    """

    is_server: bool

    async def compile(self, request: RunRequest) -> list[RunSpec]:
        """Return what would run; DefinitionError with all faults, SourceError. Stores nothing."""

    async def submit(self, request: RunRequest, *, stored: Callable[[RunRow], None] | None = None) -> list[RunRow]:
        """Store the runs that are asked for; all or none. Nothing starts before `conduct` (or a conductor) takes them.

        `stored` is called with each run that is on disk, also where the call is cancelled a moment too late.
        """

    async def has_changes(self, request: RunRequest) -> bool:
        """Say whether the working tree that is meant has changes which are not part of what `request` runs."""

    async def conduct(self, run: str, *, jobs: int | None = None, watch: Watcher | None = None) -> Report:
        """Take the run up, new or after a crash, and carry it to its end; RunBusyError while a live process owns it.

        Where conductors of a server do that, it is followed to its end, and `jobs` means nothing.
        """

    async def cancel(self, run: str, *, job: str | None = None, by: str = "", force: bool = False) -> RunRow:
        """Ask for the end of a run or one job of it; with `force`, without grace. InputError if it is over, NotFoundError.

        A run that no live process owns is taken up and ended here.
        """

    async def retry(self, run: str, *, failed_only: bool = True, by: str = "") -> RunRow:
        """Store a new run of the same spec that keeps what succeeded, or with `failed_only` False runs everything again.

        InputError if the run is not over, or if nothing is to be done again; NotFoundError. To be conducted like a new run.
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

    def artifact_data(self, stored: StoredArtifact) -> AsyncIterator[bytes]:
        """Yield the artifact's bytes; NotFoundError where they are gone, none of a link."""

    async def gc(self, *, keep_days: float | None, max_bytes: int | None, dry_run: bool = False) -> Swept:
        """Delete final runs, trees and mirrors that are old or too many, and whatever no live run owns.

        None is what the settings say where it is done.
        """
