"""The waist over HTTP, where a connection breaks or a server says what it should not. The whole of it, over a real server, is in
tests/acceptance."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stretto.client.client import Client, open_client
from stretto.client.connection import Connection, Patience
from stretto.core import events as ev
from stretto.core import spec as specs
from stretto.core.errors import NotFoundError, ServerError, SourceError
from stretto.core.ports import RunFilter, RunRow
from stretto.core.run import Run
from stretto.core.spec import JobSpec, RunSpec
from stretto.core.states import Status
from stretto.reports.build import build
from stretto.reports.model import to_json
from stretto.reports.row import row_to_json
from stretto.waist import LogRequest, RunRequest
from tests.support.repository import git, make_repository
from tests.unit.client.scripted import HANG, Scripted, answer, events, problem, scripted

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ID = "01m7ygsdtz1yjsch3q6ekz5cmj"
SPEC = RunSpec("pipeline", "small", ("test",), (JobSpec("a/b", "test", "fake"),))
EVENTS: list[ev.Event] = [
    ev.RunSubmitted(NOW),
    ev.RunStarted(NOW),
    ev.JobQueued(NOW, "a/b"),
    ev.AttemptStarting(NOW, "a/b", 1),
    ev.AttemptEnded(NOW, "a/b", 1, ev.Outcome(Status.SUCCESS, 0)),
    ev.RunEnded(NOW, Status.SUCCESS),
]


def row(number: int = 7) -> RunRow:
    """Return a run's row."""
    return RunRow(ID, number, "pipeline", "small", Status.RUNNING, *[None] * 6, NOW, NOW, None)  # type: ignore[arg-type]


def report() -> dict[str, Any]:
    """Return the report of the run when it is over."""
    run = Run(ID, SPEC)
    for event in EVENTS:
        run.apply(event)
    return to_json(build(row(), run, now=NOW))


def numbered(first: int, last: int) -> list[tuple[str, Any]]:
    """Return events by their numbers, as a server streams them."""
    return [
        (str(number), {"seq": number, "event": ev.to_record(EVENTS[number - 1])}) for number in range(first, last + 1)
    ]


ROW = answer(200, row_to_json(row()))
THE_SPEC = answer(200, specs.to_json(SPEC))
ALL_RUNS = answer(202, {"runs": [row_to_json(row())]})


@asynccontextmanager
async def client(*answers: bytes) -> AsyncIterator[tuple[Client, Scripted]]:
    """Give a client of a server with these answers."""
    async with scripted(*answers) as script, Connection(script.target, patience=Patience(0.5, 0.5)) as connection:
        yield Client(connection), script


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (answer(200, b"<html>", media_type="text/html"), "no Stretto server"),
        (answer(200, {"name": "another program"}), "no Stretto server"),
        (answer(200, [1]), "no Stretto server"),
        (answer(200, {"version": "9.1", "api": "v4"}), "is Stretto 9.1 and speaks API 'v4'"),
        (answer(404, b"nothing here", media_type="text/plain"), "not as a Stretto server does"),
    ],
)
async def test_client_talks_to_its_own_kind_only(said: bytes, words: str) -> None:
    """Another program, a proxy's page and another version of the API are told as what they are."""
    async with scripted(said) as script:
        with pytest.raises(ServerError, match=words):
            async with open_client(script.target, greet_s=0.0):
                pass


async def test_submission_whose_answer_is_lost_is_made_again_under_the_same_key() -> None:
    """So that there is one run however often the connection breaks."""
    request = RunRequest(repository="https://example.org/x.git", variables={"A": "1"})
    stored: list[RunRow] = []
    async with client(b"HTTP/1.1 2", answer(503), ALL_RUNS) as (waist, script):
        assert [each.number for each in await waist.submit(request, stored=stored.append)] == [7]
    assert [each.number for each in stored] == [7]
    keys = {asked.headers["idempotency-key"] for asked in script.asked}
    assert (len(script.asked), len(keys)) == (3, 1)
    assert json.loads(script.asked[0].body) == {
        "repository": "https://example.org/x.git",
        "variables": {"A": "1"},
        "validate": True,
    }


async def test_submission_that_is_cut_short_gives_up_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that is cancelled is not held by a server that does not answer."""
    monkeypatch.setattr("stretto.client.client.SETTLE_S", 0.01)
    async with client(HANG) as (waist, script):
        submitting = asyncio.create_task(waist.submit(RunRequest(repository="https://example.org/x.git")))
        await script.came.wait()
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting


async def test_tree_on_this_host_is_sent_as_a_pack(tmp_path: Path) -> None:
    """With its commit, branch and the name that others have for it; the credentials of its remote stay here."""
    repository = make_repository(tmp_path / "repo", {"pipeline.yml": "name: x\njobs: {a: {stage: test, script: x}}\n"})
    git(repository, "remote", "add", "origin", "https://ann:secret@example.org/team/app.git")
    async with client(answer(201, {"upload": "0" * 64}), ALL_RUNS) as (waist, script):
        await waist.submit(RunRequest(directory=repository))
    sent, submitted = script.asked
    assert sent.headers["stretto-commit"] == git(repository, "rev-parse", "HEAD")
    assert sent.headers["stretto-repository"] == "https%3A//example.org/team/app.git"
    assert sent.headers["stretto-branch"] == "main"
    (tmp_path / "there.pack").write_bytes(sent.body)
    git(tmp_path, "init", "--bare", "-q", "there")
    git(tmp_path / "there", "index-pack", "--strict", str(tmp_path / "there.pack"))
    assert json.loads(submitted.body) == {
        "upload": "0" * 64,
        "repository": "https://example.org/team/app.git",
        "validate": True,
    }


async def test_working_tree_of_a_url_is_refused_before_anything_is_sent() -> None:
    """As it is where the work is done here."""
    async with client(ALL_RUNS) as (waist, script):
        with pytest.raises(SourceError, match="working tree is that of a local repository"):
            await waist.submit(RunRequest(repository="https://example.org/x.git", working_tree=True))
    assert script.asked == []


async def test_conduct_shows_every_event_once_however_often_the_connection_breaks() -> None:
    """Events that come again are passed over; the run that is shown has all of them applied."""
    seen: list[str] = []
    states: list[Status] = []

    def watch(run: Run, new: Sequence[ev.Event]) -> None:
        seen.extend(type(event).__name__ for event in new)
        states.append(run.status)

    streams = [events(*numbered(1, 3), end=False), THE_SPEC, events(*numbered(2, 6))]
    so_far = answer(200, {"events": []})
    # the spec is asked for while the first stream is open, so that it is the third to be answered
    async with client(ROW, so_far, *streams, answer(200, report())) as (waist, script):
        done = await waist.conduct("7", watch=watch)
    assert done.run.status is Status.SUCCESS
    assert seen == [type(event).__name__ for event in EVENTS]
    assert states[-1] is Status.SUCCESS
    assert script.asked[4].headers["last-event-id"] == "3"


async def test_conduct_of_a_run_that_was_never_compiled_ends_with_its_report() -> None:
    """A server refused it afterwards: there are no jobs to show, and no spec to ask for."""
    ended = ev.RunEnded(NOW, Status.FAILED, "bad_definition", "faults")
    stream = events(numbered(1, 1)[0], ("2", {"seq": 2, "event": ev.to_record(ended)}))
    async with client(ROW, answer(200, {"events": []}), stream, answer(200, report())) as (waist, script):
        await waist.conduct("7")
    assert [asked.target.rpartition("/")[2] for asked in script.asked] == ["7", "events?after=0", "events", "report"]


async def test_conduct_of_a_server_that_goes_away_says_how_to_go_on() -> None:
    """The run is none the worse for it."""
    async with client(ROW, answer(200, {"events": []}), answer(503)) as (waist, _):
        with pytest.raises(ServerError, match="answered 503") as caught:
            await waist.conduct("7")
    assert "stretto resume 7" in str(caught.value.hint)


async def test_follower_of_a_job_that_is_still_to_start_waits_for_its_first_attempt() -> None:
    """Then it follows that one; a job that ended without any is the server's to explain."""
    job = {"attempts": [], "status": "pending"}
    stream, output = events(*numbered(1, 4)), events(piece(2, b"ok"))
    async with client(answer(200, job), stream, output) as (waist, script):
        assert [data async for data in waist.logs(LogRequest("7", "a/b", follow=True))] == [b"ok"]
    assert script.asked[2].target.endswith("/log?attempt=1&follow=1")
    skipped = answer(200, {"attempts": [], "status": "skipped"})
    async with client(skipped, problem(404, "no attempt 1", word="not-found")) as (waist, _):
        with pytest.raises(NotFoundError, match="no attempt"):
            await anext(aiter(waist.logs(LogRequest("7", "a/b", follow=True))))


def piece(position: int, data: bytes) -> tuple[str, Any]:
    """Return a piece of a log that ends at this byte, as a server streams it."""
    return str(position), {"b64": base64.b64encode(data).decode()}


async def test_followed_log_is_byte_exact_across_cuts() -> None:
    """Pieces that overlap what came are cut to what is new; the end is the end."""
    first = events(piece(3, b"abc"), end=False)
    second = events(piece(3, b"abc"), piece(5, b"bcde"), piece(8, b"\xff\x00\n"))
    async with client(first, second) as (waist, script):
        request = LogRequest("7", "a/b", 1, follow=True)
        assert b"".join([data async for data in waist.logs(request)]) == b"abcde\xff\x00\n"
    assert script.asked[0].target == "/api/v1/runs/7/jobs/a%2Fb/log?attempt=1&follow=1"
    assert [asked.headers["last-event-id"] for asked in script.asked] == ["0", "3"]


async def test_log_of_the_latest_attempt_stays_with_that_attempt() -> None:
    """What is read on after a cut is never the output of another attempt that began meanwhile."""
    job = answer(200, {"attempts": [{}, {}], "status": "running"})
    async with client(job, answer(200, b"abcdef", cut=2), answer(206, b"cdef")) as (waist, script):
        assert b"".join([data async for data in waist.logs(LogRequest("7", "a/b"))]) == b"abcdef"
    assert [asked.target for asked in script.asked[1:]] == ["/api/v1/runs/7/jobs/a%2Fb/log?attempt=2"] * 2


async def test_lines_have_their_times_and_bytes() -> None:
    """Also those that are no text."""
    line = {"at": NOW.isoformat(), "b64": base64.b64encode(b"\xff\r").decode()}
    body = (json.dumps(line) + "\n").encode()
    async with client(answer(200, body, media_type="application/x-ndjson")) as (waist, _):
        assert await waist.log_lines(LogRequest("7", "j", 1)) == [(NOW, b"\xff\r")]


async def test_lists_are_read_page_by_page() -> None:
    """No more than was asked for, and to the end if there is less."""
    pages = [
        answer(200, {"runs": [row_to_json(row(9))], "next": 9}),
        answer(200, {"runs": [row_to_json(row(8))], "next": None}),
    ]
    async with client(*pages) as (waist, script):
        assert [
            it.number for it in await waist.list_runs(RunFilter(limit=600, statuses=frozenset({Status.FAILED})))
        ] == [
            9,
            8,
        ]
    assert [asked.target for asked in script.asked] == [
        "/api/v1/runs?status=failed&limit=500",
        "/api/v1/runs?status=failed&limit=500&before=9",
    ]


@pytest.mark.parametrize("said", [{}, [], {"runs": [{}]}, {"runs": [{"status": "asleep"}]}, {"runs": 3}], ids=str)
async def test_answers_that_nobody_knows_are_told(said: Any) -> None:
    """A newer server that changed something is told as that, not as a traceback."""
    async with client(answer(200, said)) as (waist, _):
        with pytest.raises(ServerError, match="does not know"):
            await waist.list_runs(RunFilter())


async def test_cancel_is_not_made_twice() -> None:
    """Its answer was lost; a person sees that and looks."""
    async with client(b"HTTP/1.1 2", problem(409, "over")) as (waist, script):
        with pytest.raises(ServerError, match="broke"):
            await waist.cancel("7")
    assert len(script.asked) == 1
