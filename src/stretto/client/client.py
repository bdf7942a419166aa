"""The waist over HTTP. Fulfils `waist.Waist`; whoever holds it can't tell, but by `is_server`, where the work is done.

What the server says is read as the embedded product's own values; what it refuses is raised as the same errors.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from stretto import __version__
from stretto.client.connection import COMPILE_READ_S, Connection, Patience
from stretto.client.target import Target
from stretto.core import spec as specs
from stretto.core.errors import ServerError, StrettoError
from stretto.core.events import (
    Artifact,
    AttemptStarting,
    CancelRequested,
    Event,
    JobEnded,
    RunEnded,
    RunSubmitted,
    from_record,
)
from stretto.core.ports import RunFilter, RunRow
from stretto.core.run import Run
from stretto.core.spec import RunSpec
from stretto.core.states import FINAL, Status
from stretto.reports import model
from stretto.reports.model import Report
from stretto.reports.row import row_from_json
from stretto.waist import LogRequest, RunRequest, StoredArtifact, Swept, Watcher, request_to_json

_T = TypeVar("_T")

API: Final = "v1"
PAGE: Final = 500
"""How many runs are asked for at once."""
SETTLE_S: Final = 5.0
"""How long the answer to a submission is waited for when it is cut short, to say what became of it."""
EARLY: Final = (RunSubmitted, CancelRequested)
"""Events that a run may have before it is compiled."""


@asynccontextmanager
async def open_client(target: Target, *, patience: Patience | None = None, greet_s: float) -> AsyncIterator[Client]:
    """Give the waist of a server that answers as one of ours; ServerError where it does not within `greet_s`."""
    async with Connection(target, patience=patience) as connection:
        client = Client(connection)
        await client.greet(greet_s)
        yield client


class Client:
    """The waist of a server."""

    is_server = True

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._fresh: set[str] = set()
        """Runs that were submitted here, of which everything is still to be shown."""
        self.version = ""
        """The server's, once it was greeted."""

    async def greet(self, patience_s: float) -> None:
        """Learn the server's version; ServerError if it is none of ours, or one that this client can't talk to."""
        url = self._connection.target.url
        said = await self._connection.call("GET", "/version", again=True, patience_s=patience_s)
        if not isinstance(said, Mapping) or "version" not in said:
            raise ServerError(f"{url} is no Stretto server", hint="check the server's URL")
        if said.get("api") != API:
            raise ServerError(
                f"{url} is Stretto {said['version']} and speaks API {said.get('api')!r}; "
                f"this is Stretto {__version__}, which speaks {API!r}",
                hint="install the version of the server",
            )
        self.version = str(said["version"])

    async def verify(self) -> None:
        """Raise AccessError if the server does not take the token."""
        await self.list_runs(RunFilter(limit=1))

    # ------------------------------------------------------------------------------------------------------ asking

    async def compile(self, request: RunRequest) -> list[RunSpec]:
        """See `Waist.compile`."""
        body = request_to_json(await self._upload(request))
        said = await self._connection.call("POST", "/plan", body=body, again=True, read_s=COMPILE_READ_S)
        return self._read(lambda: [specs.from_json(spec) for spec in said["specs"]])

    async def submit(self, request: RunRequest, *, stored: Callable[[RunRow], None] | None = None) -> list[RunRow]:
        """See `Waist.submit`. A submission that can't be seen through is made again under the same key."""
        request = await self._upload(request)
        posting = asyncio.create_task(self._post(request), name="submit")
        try:
            rows = await asyncio.shield(posting)
        except asyncio.CancelledError:
            try:
                await asyncio.wait({posting}, timeout=SETTLE_S)
                if posting.done() and not posting.cancelled() and posting.exception() is None:
                    _tell(stored, posting.result())
            finally:
                posting.cancel()
                await asyncio.gather(posting, return_exceptions=True)
            raise
        self._fresh.update(row.id for row in rows)
        _tell(stored, rows)
        return rows

    async def has_changes(self, request: RunRequest) -> bool:
        """See `Waist.has_changes`."""
        from stretto.client import tree

        return await tree.has_changes(request)

    async def conduct(self, run: str, *, jobs: int | None = None, watch: Watcher | None = None) -> Report:
        """See `Waist.conduct`: the server's conductors carry the run, and here it is followed to its end.

        `jobs` means nothing there. What happened before a run was taken up here is not shown.
        """
        row = await self.find_run(run)
        follower = _Follower(row.id, functools.partial(self._spec, row.id), watch)
        if row.id not in self._fresh:
            await follower.pass_over(await self._events_so_far(row.id))
        try:
            if not follower.is_over:
                async with aclosing(self._watch(row.id, follower.last)) as events:
                    async for number, event in events:
                        await follower.take(number, event)
            return await self.report(row.id)
        except ServerError as error:
            raise ServerError(
                error.message, hint=f"the run goes on; follow it with `stretto resume {row.number}`"
            ) from error

    async def cancel(self, run: str, *, job: str | None = None, by: str = "", force: bool = False) -> RunRow:
        """See `Waist.cancel`. Who asks is who the token belongs to, whatever `by` says."""
        body: dict[str, Any] = {"force": force} if job is None else {"job": job, "force": force}
        return self._row(await self._connection.call("POST", f"{_path(run)}/cancel", body=body))

    async def retry(self, run: str, *, failed_only: bool = True, by: str = "") -> RunRow:
        """See `Waist.retry`."""
        row = self._row(await self._connection.call("POST", f"{_path(run)}/retry", body={"failed_only": failed_only}))
        self._fresh.add(row.id)
        return row

    async def gc(self, *, keep_days: float | None, max_bytes: int | None, dry_run: bool = False) -> Swept:
        """See `Waist.gc`."""
        wanted = {"keep_days": keep_days, "max_bytes": max_bytes, "dry_run": dry_run}
        body = {name: value for name, value in wanted.items() if value is not None}
        said = await self._connection.call("POST", "/gc", body=body, again=True, read_s=COMPILE_READ_S)
        return self._read(lambda: Swept(said["runs"], said["attempts"], said["freed_bytes"]))

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the answer to what only a server is asked; None of an empty one. `path` is below the version's prefix."""
        return await self._connection.call(method, path, body=body, again=method == "GET")

    # ----------------------------------------------------------------------------------------------------- reading

    async def find_run(self, run: str) -> RunRow:
        """See `Waist.find_run`."""
        return self._row(await self._connection.get(_path(run)))

    async def list_runs(self, which: RunFilter) -> list[RunRow]:
        """See `Waist.list_runs`."""
        params: dict[str, Any] = {name: value for name in ("name", "branch", "by") if (value := getattr(which, name))}
        if which.statuses is not None:
            params["status"] = sorted(status.value for status in which.statuses)
        if which.repository is not None:
            params["repository"] = await _name_there(which.repository)
        rows: list[RunRow] = []
        before = which.before
        while len(rows) < which.limit:
            page = params | {"limit": min(PAGE, which.limit - len(rows))} | ({"before": before} if before else {})
            said = await self._connection.get("/runs", page)
            rows += self._read(functools.partial(_rows, said))
            before = said.get("next")
            if before is None:
                break
        return rows

    async def report(self, run: str) -> Report:
        """See `Waist.report`."""
        said = await self._connection.get(f"{_path(run)}/report")
        return self._read(lambda: model.from_json(said))

    async def watch(self, run: str, after: int = 0) -> AsyncIterator[tuple[int, Event]]:
        """See `Waist.watch`."""
        async with aclosing(self._watch(run, after)) as events:
            async for numbered in events:
                yield numbered

    async def logs(self, request: LogRequest) -> AsyncIterator[bytes]:
        """See `Waist.logs`. A connection that is cut goes on at the byte where it was."""
        path, params = await self._log(request)
        source = (
            self._follow_log(path, params, request.offset)
            if request.follow
            else self._connection.read(path, params, offset=request.offset)
        )
        async with aclosing(source) as chunks:
            async for data in chunks:
                yield data

    async def log_lines(self, request: LogRequest) -> list[tuple[datetime, bytes]]:
        """See `Waist.log_lines`."""
        path, params = await self._log(request)
        rest, lines = b"", []
        async for data in self._connection.read(path, params | {"lines": "1"}):
            *whole, rest = (rest + data).split(b"\n")
            lines += whole
        return self._read(lambda: [_line(json.loads(line)) for line in lines if line])

    async def artifacts(self, run: str, *, job: str | None = None) -> list[StoredArtifact]:
        """See `Waist.artifacts`."""
        row = await self.find_run(run)
        said = await self._connection.get(f"{_path(row.id)}/artifacts", None if job is None else {"job": job})
        return self._read(lambda: [_artifact(row.id, it) for it in said["artifacts"]])

    async def artifact_data(self, stored: StoredArtifact) -> AsyncIterator[bytes]:
        """See `Waist.artifact_data`."""
        if stored.artifact.link is not None:
            return
        path = f"{_path(stored.run)}/artifacts/{quote(stored.job, safe='')}/{quote(stored.artifact.path)}"
        async with aclosing(self._connection.read(path)) as chunks:
            async for data in chunks:
                yield data

    # ------------------------------------------------------------------------------------------------------ pieces

    async def _upload(self, request: RunRequest) -> RunRequest:
        """Return the request as the server can understand it: a repository on this host is sent there."""
        from stretto.client import tree  # it takes longer to load than all the rest, and few commands need it

        if not (tree.is_local(request) or request.working_tree):
            return request
        found = await tree.find_tree(request)
        async with tree.pack(found) as file:
            said = await self._connection.call(
                "POST",
                "/uploads",
                content=functools.partial(tree.read, file),
                headers=tree.headers(found, file),
                again=True,
                read_s=COMPILE_READ_S,
            )
        upload = self._read(lambda: str(said["upload"]))
        return replace(
            request, upload=upload, repository=found.repository, branch=None, commit=None, working_tree=False
        )

    async def _post(self, request: RunRequest) -> list[RunRow]:
        said = await self._connection.call(
            "POST",
            "/runs",
            body=request_to_json(request) | {"validate": True},
            headers={"Idempotency-Key": request.idempotency_key or uuid.uuid4().hex},
            again=True,
            read_s=COMPILE_READ_S,
        )
        return self._read(functools.partial(_rows, said))

    async def _spec(self, run: str) -> RunSpec:
        said = await self._connection.get(f"{_path(run)}/spec")
        return self._read(lambda: specs.from_json(said))

    async def _events_so_far(self, run: str) -> list[tuple[int, Event]]:
        events: list[tuple[int, Event]] = []
        while True:
            said = await self._connection.get(f"{_path(run)}/events", {"after": events[-1][0] if events else 0})
            page = self._read(functools.partial(_events, said))
            if not page:
                return events
            events += page

    async def _watch(self, run: str, after: int) -> AsyncGenerator[tuple[int, Event], None]:
        async with aclosing(self._connection.events(f"{_path(run)}/events", after=str(after))) as said:
            async for it in said:
                number, event = self._read(functools.partial(_event, it.data))
                if number <= after:
                    continue
                after = number
                yield number, event
                if type(event) is RunEnded:
                    return

    async def _follow_log(self, path: str, params: Mapping[str, Any], offset: int) -> AsyncGenerator[bytes, None]:
        """Yield what comes behind `offset`; the id of each event is where the log stands after it."""
        async with aclosing(self._connection.events(path, {**params, "follow": "1"}, after=str(offset))) as said:
            async for it in said:
                position, data = self._read(functools.partial(_chunk, it.id, it.data))
                if position <= offset:
                    continue
                yield data[-(position - offset) :]
                offset = position

    async def _log(self, request: LogRequest) -> tuple[str, dict[str, Any]]:
        """Return where the log is, of one attempt and no other, whatever comes after it."""
        job = f"{_path(request.run)}/jobs/{quote(request.job, safe='')}"
        number = request.attempt
        if number is None:
            said = await self._connection.get(job)
            number, status = self._read(lambda: (len(said["attempts"]) or None, Status(said["status"])))
            if number is None and request.follow and status not in FINAL:
                number = await self._first_attempt(request)
        return f"{job}/log", {} if number is None else {"attempt": number}

    async def _first_attempt(self, request: LogRequest) -> int | None:
        """Return the number of the job's first attempt when it starts, None if the job ends without one."""
        async with aclosing(self._watch(request.run, 0)) as events:
            async for _, event in events:
                if type(event) is AttemptStarting and event.job == request.job:
                    return event.number
                if type(event) is JobEnded and event.job == request.job:
                    return None
        return None

    def _row(self, said: Any) -> RunRow:
        return self._read(lambda: row_from_json(said))

    def _read(self, make: Callable[[], _T]) -> _T:
        """Return what `make` makes of an answer; ServerError where it is not as this Stretto knows it."""
        try:
            return make()
        except (KeyError, TypeError, ValueError, AttributeError, StrettoError) as error:
            raise ServerError(
                f"{self._connection.target.url} tells of something that this Stretto {__version__} does not know",
                hint="install the version of the server",
            ) from error


class _Follower:
    """Replays a run's events, and shows those that are new. `last` is the number of the latest one.

    `is_over` says that it was the last one of the run.
    """

    def __init__(self, run_id: str, spec: Callable[[], Awaitable[RunSpec]], watch: Watcher | None) -> None:
        self.last = 0
        self.is_over = False
        self._run_id = run_id
        self._spec = spec
        self._watch = watch
        self._run: Run | None = None
        self._early: list[Event] = []

    async def pass_over(self, events: Sequence[tuple[int, Event]]) -> None:
        """Take in what happened before; only how the run stands after it is shown."""
        for number, event in events:
            await self._apply(number, event)
        if self._run is not None and self._watch is not None:
            self._watch(self._run, ())

    async def take(self, number: int, event: Event) -> None:
        """Take in and show the next event."""
        applied = await self._apply(number, event)
        if applied and self._run is not None and self._watch is not None:
            self._watch(self._run, applied)

    async def _apply(self, number: int, event: Event) -> list[Event]:
        """Return the events that the run has now and had not before: none while nobody knows what it consists of."""
        self.last = number
        self._early.append(event)
        if self._run is None:
            self.is_over = type(event) is RunEnded  # without having begun: nobody knows what it would have consisted of
            if self.is_over or isinstance(event, EARLY):
                return []
            self._run = Run(self._run_id, await self._spec())
        events, self._early = self._early, []
        for each in events:
            self._run.apply(each)
        self.is_over = self._run.is_over
        return events


def _path(run: str) -> str:
    return f"/runs/{quote(run, safe='')}"


def _tell(stored: Callable[[RunRow], None] | None, rows: Sequence[RunRow]) -> None:
    if stored is not None:
        for row in rows:
            stored(row)


def _rows(said: Any) -> list[RunRow]:
    return [row_from_json(row) for row in said["runs"]]


def _events(said: Any) -> list[tuple[int, Event]]:
    return [(int(it["seq"]), from_record(it["event"])) for it in said["events"]]


def _event(data: str) -> tuple[int, Event]:
    return _events({"events": [json.loads(data)]})[0]


def _chunk(position: str, data: str) -> tuple[int, bytes]:
    return int(position), base64.b64decode(json.loads(data)["b64"], validate=True)


def _artifact(run: str, said: Mapping[str, Any]) -> StoredArtifact:
    values = {name: said[name] for name in Artifact.__match_args__}
    return StoredArtifact(said["job"], said["attempt"], Artifact(**values), None, run)


def _line(said: Mapping[str, Any]) -> tuple[datetime, bytes]:
    return datetime.fromisoformat(said["at"]), base64.b64decode(said["b64"], validate=True)


async def _name_there(repository: str) -> str:
    """Return the repository as a server has it on record: one on this host by what others call it."""
    path = Path(repository)
    if not path.is_dir():
        return repository
    from stretto.client import tree

    return await tree.display_name(path)
