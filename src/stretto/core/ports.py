"""The Protocols between the engine and the world: drivers, stores, logs, artifacts, trees, time.

The engine knows these and nothing beneath them. Each says what may be called when, how often, and from how many tasks at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from stretto.core.events import Artifact, Event, Handle, JobKept, Outcome
from stretto.core.frozen import frozen
from stretto.core.run import Changes, Run
from stretto.core.spec import AttemptKey, JobSpec, RunSpec, SourceSpec
from stretto.core.states import Status
from stretto.core.upload import Pack, Upload

# ---------------------------------------------------------------------------------------------------------- drivers


@frozen
class Tree:
    """The files an attempt starts with: read-only directories, of which an earlier one hides the same path of a later one.

    `lowers` is never empty. The view that the attempt gets is private and writable; nothing it does reaches a lower.
    """

    lowers: tuple[Path, ...]


@frozen
class Launch:
    """All that a driver needs to start one attempt.

    `directory` is the attempt's own folder on this host; the driver makes it, keeps everything of the attempt in it, and
    `remove` deletes it. `tree` None means an empty tree. `variables` is the whole environment the script gets beyond the
    image's (or, for `process`, beyond a small fixed base) and has no secrets but those of this attempt.
    """

    key: AttemptKey
    job: JobSpec
    directory: Path
    tree: Tree | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


@frozen
class LogChunk:
    """Some bytes of an attempt's output, as it wrote them, and where the driver's stream stands after them."""

    at: datetime
    data: bytes
    position: int


@frozen
class ArtifactFile:
    """A file that an attempt leaves, while it is still on this host: `path` within the tree, `source` where to read it.

    `link` is the target of a symbolic link, whose `source` is then of no use.
    """

    path: str
    source: Path
    size_bytes: int
    executable: bool = False
    link: str | None = None


class Driver(Protocol):
    """Where attempts run.

    Per attempt: [`prepare`,] `start`, then `logs` and `wait` at once, `collect` after `wait`, `remove` last; `stop` at any
    time. Different attempts concurrently. After a restart of the orchestrator: `find` or `start` again (which adopts), then
    as before. Every method may be called again after it failed or was cut off. Errors are `DriverError` with a reason.

    A handle's `ref` always has `directory`, that of its launch, and every method that takes a handle works with one that has
    nothing else (what was created is named after its key).
    """

    name: str
    prepares: bool
    """Whether `prepare` does something that shortens `start`."""

    async def prepare(self, launch: Launch) -> None:
        """Create ahead of time what may be, without running a line of the script. Idempotent; optional to call."""

    async def start(self, launch: Launch) -> Handle:
        """Create the attempt and let it run, or adopt what already bears its key. Its script runs at most once per key."""

    async def find(self, key: AttemptKey, directory: Path) -> Handle | None:
        """Return the attempt's handle if it was ever started and is still known to the back-end."""

    async def wait(self, handle: Handle) -> Outcome:
        """Return how the attempt ended, when it has; `lost` if the back-end does not know it any more. Any number of times."""

    def logs(self, handle: Handle, position: int) -> AsyncIterator[LogChunk]:
        """Yield all output (stdout and stderr as one stream) after `position` bytes of it; end when the attempt is over."""

    async def stop(self, handle: Handle, grace_s: float) -> None:
        """Ask the attempt to end (TERM), make it end after `grace_s` (KILL), return when it has. Idempotent."""

    async def collect(self, handle: Handle, patterns: Sequence[str], limit_bytes: int) -> Sequence[ArtifactFile]:
        """Return the files it created or changed in its tree that match one of `patterns`; valid until `remove`."""

    async def remove(self, handle: Handle) -> None:
        """Leave nothing of the attempt outside, running or not. Idempotent."""

    async def orphans(self) -> Sequence[Handle]:
        """Return everything of this installation that is still out there, prepared ones included."""

    async def close(self) -> None:
        """Let go of connections; attempts go on."""


# ----------------------------------------------------------------------------------------------------------- stores


@frozen
class NewRun:
    """A run to store. `idempotency_key` None means that no other submission is the same as this one.

    `retry_of` is the number of the run that it does again, `kept` are the jobs of that run that it need not do again.
    """

    spec: RunSpec
    created_at: datetime
    by: str = ""
    idempotency_key: str | None = None
    driver: str | None = None
    priority: int = 0
    retry_of: int | None = None
    kept: tuple[JobKept, ...] = ()


@frozen
class NewRequest:
    """A run to accept before it is known what it consists of: what was asked (`body`, JSON-able) and what names it until then."""

    body: Mapping[str, Any]
    created_at: datetime
    kind: str = "pipeline"
    name: str = ""
    repository: str | None = None
    branch: str | None = None
    by: str = ""
    idempotency_key: str | None = None
    driver: str | None = None
    priority: int = 0
    retry_of: int | None = None


@frozen
class RunRow:
    """What is known of a run without looking at its jobs. `owner` is the conductor that holds (or last held) it.

    Of two runs the one with the higher `priority` is taken up first; `by` is who submitted it; `retry_of` is the number of the
    run whose jobs it does again.
    """

    id: str
    number: int
    kind: str
    name: str
    status: Status
    reason: str | None
    message: str | None
    repository: str | None
    branch: str | None
    commit: str | None
    commit_message: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    owner: str | None = None
    priority: int = 0
    by: str = ""
    retry_of: int | None = None


@frozen
class RunFilter:
    """Which runs to list; None means any. Newest first, those with a number below `before`, at most `limit`."""

    statuses: frozenset[Status] | None = None
    name: str | None = None
    repository: str | None = None
    branch: str | None = None
    by: str | None = None
    before: int | None = None
    limit: int = 50


@frozen
class Claim:
    """The right to write to a run: valid while the owner's lease is renewed and nobody else claimed it with a higher fence."""

    run_id: str
    owner: str
    fence: int


@frozen
class StoredRun:
    """A run as it is on record: its row, its spec and all its events in order (RunSubmitted first).

    `request` is set while the run is undefined, that is accepted and not yet compiled; its spec has no jobs then.
    """

    row: RunRow
    spec: RunSpec
    events: tuple[Event, ...]
    request: Mapping[str, Any] | None = None


@frozen
class Request:
    """Something asked of a run by another process: `kind` is `cancel`; `id` orders requests and is used to settle them."""

    id: int
    run_id: str
    kind: str
    body: Mapping[str, Any]


@frozen
class Wanted:
    """Which runs a conductor wants: at most `limit`; with `undefined`, those too that are not yet compiled.

    `place` names the back-ends that it reaches. A run of another place that has attempts under way is wanted only when no
    conductor of that place has been heard of for `abandon_s` seconds.
    """

    limit: int
    place: str = ""
    undefined: bool = True
    abandon_s: float = 300.0


class Tables(Protocol):
    """Statements on the small tables of a store, written for every database alike: marks are `?`, times whole microseconds."""

    async def read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""

    async def write(self, *statements: tuple[str, Sequence[Any]]) -> list[list[tuple[Any, ...]]]:
        """Execute the statements in one transaction, on disk when this returns; return the rows of each (RETURNING)."""


class Store(Protocol):
    """The durable state. Any number of tasks at once. A call that returned is on disk (group commit underneath).

    `commit`, `define` and `release` fail with FenceLostError, having written nothing, when the claim is no longer the newest.
    """

    tables: Tables

    async def create_run(self, new: NewRun) -> tuple[RunRow, bool]:
        """Store run, jobs and first events in one transaction; False where the idempotency key was already there."""

    async def accept(self, new: Sequence[NewRequest]) -> list[tuple[RunRow, bool]]:
        """Store undefined runs with RunSubmitted, all in one transaction; False where the idempotency key was already there."""

    async def define(self, claim: Claim, spec: RunSpec) -> RunRow:
        """Give an undefined run its spec: jobs, name and source are stored in one transaction."""

    async def claim_next(self, owner: str, wanted: Wanted) -> list[Claim]:
        """Take runs that are not over and that no live owner holds: by priority, then in turns between who submitted them."""

    async def unpublished(self, *, older_than_s: float, again_after_s: float, limit: int) -> list[str]:
        """Return undefined runs to tell the queue of: not told of for `older_than_s`, or told of `again_after_s` ago."""

    async def mark_published(self, run_ids: Sequence[str]) -> None:
        """Take note that the queue has these runs."""

    async def commit(
        self, claim: Claim, events: Sequence[Event], changes: Changes, settled: Iterable[int] = ()
    ) -> None:
        """Append `events`, write the rows that changed and delete the `settled` requests, in one transaction."""

    async def claim(self, run_id: str, owner: str, place: str = "") -> Claim:
        """Take the run with the next fence; RunBusyError while another owner's lease is alive."""

    async def release(self, claim: Claim) -> None:
        """Give the run back; others may claim it at once."""

    async def keep_lease(self, owner: str, lease_s: float, place: str = "") -> None:
        """Start or renew the owner's lease, by the store's clock; to be called well before it runs out."""

    async def load(self, run_id: str) -> StoredRun:
        """Return the run as it is on record; NotFoundError."""

    async def find_run(self, reference: str) -> RunRow:
        """Return the run with this number or id (or unambiguous start of an id); NotFoundError."""

    async def list_runs(self, which: RunFilter) -> list[RunRow]:
        """Return the runs that match, newest first."""

    async def read_events(self, run_id: str, after: int) -> list[tuple[int, Event]]:
        """Return the events with a sequence number (from 1) above `after`, in order."""

    async def ask(self, run_id: str, kind: str, body: Mapping[str, Any]) -> None:
        """Leave a request for the run's conductor."""

    async def read_requests(self, run_id: str) -> list[Request]:
        """Return the requests of the run that are not settled yet, oldest first."""

    async def wait_for_change(self, timeout_s: float) -> bool:
        """Return True as soon as anything may have been written by another process, False after the time-out."""

    async def delete_runs(self, run_ids: Sequence[str]) -> None:
        """Delete final runs and all that belongs to them; a run that is not final is left alone."""

    async def close(self) -> None:
        """Finish what was accepted, then let go of the files or connections."""


class LogWriter(Protocol):
    """The one writer of an attempt's log. `position` is where the driver's stream stood after the last complete write."""

    position: int

    async def append(self, chunk: LogChunk) -> None:
        """Write the chunk's bytes with its time and position."""

    async def close(self, *, complete: bool = True) -> None:
        """Let go of the log, on disk as far as it was appended; `complete` says that nothing will follow."""


class LogStore(Protocol):
    """Logs, one per attempt. What was appended survives `kill -9`; a half-written end is cut off when opened again."""

    async def open(self, key: AttemptKey) -> LogWriter:
        """Open the attempt's log to write on; after a crash it goes on where the last complete write ended."""

    def read(
        self, key: AttemptKey, *, offset: int = 0, follow: bool = False, is_over: Callable[[], Awaitable[bool]] = ...
    ) -> AsyncIterator[bytes]:
        """Yield the log's bytes from `offset`; with `follow` wait for more until the log is complete.

        An attempt that wrote nothing has no log: while there is none, a follower asks `is_over` whether to wait any longer.
        """

    async def size(self, key: AttemptKey) -> int:
        """Return how many bytes can be read of the log now; 0 where there is none."""

    async def lines(self, key: AttemptKey) -> list[tuple[datetime, bytes]]:
        """Return the log's lines, without line ends, each with the time its first byte came."""

    async def delete(self, run_id: str) -> int:
        """Delete the run's logs and return how many bytes that freed."""


class BlobStore(Protocol):
    """Bytes by their SHA-256 (`digest`, lower-case hex), the same for all hosts of a store. Any number of tasks and processes."""

    async def put(self, files: Mapping[str, Path]) -> None:
        """Have the files, by digest, on record, durable when this returns; StoreError if one has another digest. Idempotent.

        What was put is kept for a while, even if nothing says yet that it is used.
        """

    async def get(self, files: Mapping[str, Path]) -> None:
        """Make the files, by digest; none of them exists before. NotFoundError, StoreError for a damaged one.

        After an error some of them may be there, and one of those be cut short.
        """

    async def has(self, digest: str) -> bool:
        """Say whether these bytes are on record."""

    async def delete_unused(self, unused_since: datetime) -> int:
        """Delete what no run and no upload uses and nobody has put since then; return how many bytes that freed."""


class ArtifactStore(Protocol):
    """Files that attempts left, stored once by content."""

    async def add(self, key: AttemptKey, files: Sequence[ArtifactFile]) -> tuple[Artifact, ...]:
        """Store the files and make them a layer of the attempt; the same attempt again replaces it.

        What is returned can be had on every host of the store.
        """

    async def layer(self, key: AttemptKey, artifacts: Sequence[Artifact]) -> Path:
        """Return the directory that holds the attempt's `artifacts` under their paths, to be laid under other trees.

        It is made where it isn't there, on a host that did not run the attempt. Any number of tasks and processes at once.
        """

    async def path(self, artifact: Artifact) -> Path:
        """Return where the artifact's bytes are on this host, brought here if need be."""

    async def find(self, artifact: Artifact) -> Path | None:
        """Return where the artifact's bytes are, if they are on this host already."""

    async def delete(self, run_id: str) -> int:
        """Delete the run's layers and what no other run uses; return how many bytes that freed."""

    async def sweep(self, kept: Collection[str], unused_since: datetime) -> int:
        """Delete the layers of runs that are not `kept`, and files nobody used since then; return how many bytes that freed."""


class UploadStore(Protocol):
    """Uploads and their packs, the same for all hosts of a store."""

    async def add(self, upload: Upload, pack: Path) -> None:
        """Keep the pack and what is known of it, durable when this returns. Idempotent."""

    async def use(self, id: str) -> Upload:
        """Return the upload, which is kept for a day at least from now on; NotFoundError."""

    async def get(self, digest: str, target: Path) -> None:
        """Make the file `target` with the pack of this digest; NotFoundError."""

    async def delete_unused(self, unused_since: datetime) -> int:
        """Delete what was not used since then, nor by any run that is kept; return how many bytes that freed."""


class Trees(Protocol):
    """Where the source tree of a run comes from."""

    async def checkout(self, run: Run) -> Path | None:
        """Return a shared read-only checkout of the run's commit, made on first use; None where the run has no source."""


class Source(Protocol):
    """A commit that was found, and whatever the one who found it needs to find it again."""

    @property
    def spec(self) -> SourceSpec:
        """What a run records of it."""


class Repositories(Trees, Protocol):
    """Git repositories, near and far. Any number of tasks at once; failures are SourceError, and leave nothing on disk."""

    async def resolve(
        self, reference: str | None, *, branch: str | None, commit: str | None, working_tree: bool, cwd: Path
    ) -> Source:
        """Return the commit that is meant; `reference` None is the repository that holds `cwd`."""

    async def resolve_upload(self, upload: Upload) -> Source:
        """Return the commit of an upload."""

    def receive_pack(
        self, data: AsyncIterator[bytes], *, commit: str, digest: str | None, limit_bytes: int
    ) -> AbstractAsyncContextManager[Pack]:
        """Write down what comes and check it: the whole `commit` must be in it, and nothing that could do harm.

        `digest` is the SHA-256 it is said to have, if that is said. TooLargeError, SourceError. The file goes with the context.
        """

    async def read_file(self, source: Any, path: str) -> bytes:
        """Return a regular file of the commit."""

    async def list_files(self, source: Any, directory: str) -> list[str]:
        """Return the paths of the regular files right in a directory of the commit; none if it isn't there."""

    async def forget(self, source: Any) -> None:
        """Leave nothing of a repository that was not known before `resolve` found this source in it, and is refused."""

    async def list_working_tree(self, source: Any, directory: str) -> list[str]:
        """Return the paths of the regular files right in a directory of the working tree, if the source came from one."""

    async def has_changes(self, reference: str | None, *, cwd: Path) -> bool:
        """Say whether a working tree differs from its HEAD; False for a repository elsewhere or without working tree."""

    async def checkout_source(self, source: Any) -> Path:
        """Return a shared read-only checkout of the commit, made on first use."""

    async def gc(self, *, keep_newer_than: datetime, max_bytes: int, in_use: Iterable[SourceSpec]) -> int:
        """Delete what was not used for longest until at most `max_bytes` are left, but nothing in use; return bytes freed."""


# ------------------------------------------------------------------------------------------------------------- time


class Clock(Protocol):
    """Time, so that tests can have their own."""

    def now(self) -> datetime:
        """Return the time in UTC, aware."""

    async def sleep(self, seconds: float) -> None:
        """Come back after `seconds`."""
