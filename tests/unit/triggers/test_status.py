"""Commit statuses: noticed from the store, sent to a real server, in order, and tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from stretto.core.errors import InputError
from stretto.core.states import Status
from stretto.triggers.forge import STATES, Forge, default_url
from stretto.triggers.forge_table import ForgeTable
from stretto.triggers.notice import MARGIN
from stretto.triggers.outbox import CLAIM_S, FIRST_PAUSE_S, LONGEST_PAUSE_S, Outbox
from stretto.triggers.status import LONGEST_WAIT_S, StatusReporter, open_client, wait_of
from stretto.waist import RunRequest
from tests.unit.triggers.conftest import Base
from tests.unit.triggers.forge_server import ForgeServer, open_forge_server

HOST = "git.example.com"
ADDRESS = f"https://{HOST}/acme/words"
COMMIT = "c9f0f895fb98ab9159f51fd0297e236d1e8a7b21"
TOKEN = "ghp_0123456789abcdefghij"


@pytest.fixture
async def server() -> AsyncIterator[ForgeServer]:
    """A forge on the loopback."""
    async with open_forge_server() as forge:
        yield forge


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """The client that statuses are sent with."""
    async with open_client() as opened:
        yield opened


class Reported:
    """A state with one forge, whose runs the test moves along."""

    def __init__(self, base: Base, server: ForgeServer, home: Path) -> None:
        self.base = base
        self.server = server
        self.reporter = StatusReporter(base.store, base.clock, home=home, server_url="https://stretto.example.com/")

    async def add_forge(self, kind: str = "github", **changes: Any) -> Forge:
        """Let the forge be told of its runs."""
        forge = replace(Forge(HOST, kind, self.server.url, token=TOKEN), **changes)
        forge.check()
        await ForgeTable(self.base.store.tables).put(forge, now=datetime(2020, 1, 1, tzinfo=UTC))
        return forge

    async def add_run(self, *, by: str = "hook/0123456789abcdef", repository: str = ADDRESS, name: str = "test") -> int:
        """Accept a run and give it the commit, as if it was compiled; return its number."""
        ((row, _),) = await self.base.service.accept(RunRequest(repository=repository, pipelines=(name,), by=by))
        await self.set(row.number, commit_id=COMMIT)
        return row.number

    async def set(self, number: int, **columns: object) -> None:
        """Move the run along."""
        changes = ", ".join(f"{name} = ?" for name in columns)
        sql = f"UPDATE run SET seq = seq + 1, {changes} WHERE number = ?"
        await self.base.store.tables.write((sql, (*columns.values(), number)))

    async def report(self, client: httpx2.AsyncClient) -> None:
        """Notice and send all that is due now."""
        await self.reporter.sweep()
        while await self.reporter.send_due(client):
            pass

    def states(self) -> list[str]:
        """Return the states that the forge was sent, in order."""
        return [it.body["state"] for it in self.server.sent]

    async def outbox(self) -> list[tuple[Any, ...]]:
        """Return state, settled, tries and error of what is in the outbox."""
        return await self.base.store.tables.read(
            "SELECT state, settled, tries, error FROM status_outbox ORDER BY context"
        )


@pytest.fixture
async def reported(base: Base, server: ForgeServer, tmp_path: Path) -> Reported:
    """A state, a forge, and the reporter between them."""
    base.clock.at = datetime.now(UTC)
    return Reported(base, server, tmp_path)


@pytest.mark.parametrize(
    ("kind", "path", "header", "states"),
    [
        (
            "github",
            f"/repos/acme/words/statuses/{COMMIT}",
            ("authorization", f"Bearer {TOKEN}"),
            ["pending", "pending", "failure"],
        ),
        (
            "gitea",
            f"/repos/acme/words/statuses/{COMMIT}",
            ("authorization", f"token {TOKEN}"),
            ["pending", "pending", "failure"],
        ),
        (
            "forgejo",
            f"/repos/acme/words/statuses/{COMMIT}",
            ("authorization", f"token {TOKEN}"),
            ["pending", "pending", "failure"],
        ),
        (
            "gitlab",
            f"/projects/acme%2Fwords/statuses/{COMMIT}",
            ("private-token", TOKEN),
            ["pending", "running", "failed"],
        ),
    ],
)
async def test_status_follows_the_run(
    reported: Reported, client: httpx2.AsyncClient, kind: str, path: str, header: tuple[str, str], states: list[str]
) -> None:
    """Pending, running and over are each sent once, in the words of the forge."""
    await reported.add_forge(kind)
    number = await reported.add_run()
    await reported.report(client)
    for status in ("running", "failed"):
        await reported.set(number, status=status)
        await reported.report(client)
        await reported.report(client)
    assert reported.states() == states
    last = reported.server.sent[-1]
    assert (last.method, last.path, last.headers[header[0]]) == ("POST", path, header[1])
    assert last.body["name" if kind == "gitlab" else "context"] == "stretto/test"
    assert last.body["target_url"] == f"https://stretto.example.com/api/v1/runs/{number}/report"
    assert last.body["description"] == f"Run {number}: failure"


@pytest.mark.parametrize("status", Status)
async def test_every_status_of_a_run_has_a_state(
    reported: Reported, client: httpx2.AsyncClient, status: Status
) -> None:
    """None is left out, and each is one the forge takes."""
    await reported.add_forge()
    await reported.set(await reported.add_run(), status=status.value)
    await reported.report(client)
    assert reported.states()[0] in {"pending", "success", "failure", "error"}
    assert (await reported.outbox())[0][0] == STATES[status].value


async def test_only_the_newest_status_is_sent(reported: Reported, client: httpx2.AsyncClient) -> None:
    """What was passed over while the forge was away is not sent any more."""
    await reported.add_forge()
    number = await reported.add_run()
    await reported.reporter.sweep()
    for status in ("running", "success"):
        await reported.set(number, status=status)
        await reported.reporter.sweep()
    await reported.report(client)
    assert reported.states() == ["success"]


async def test_newer_run_of_a_commit_goes_before_an_older_one(reported: Reported, client: httpx2.AsyncClient) -> None:
    """The end of an older run does not hide that a newer one is under way; another pipeline has a context of its own."""
    await reported.add_forge()
    older, newer = await reported.add_run(), await reported.add_run()
    other = await reported.add_run(name="docs")
    await reported.report(client)
    await reported.set(older, status="failed")
    await reported.set(other, status="success")
    await reported.report(client)
    sent = [(it.body["context"], it.body["state"]) for it in reported.server.sent]
    assert sorted(sent[:2]) == [("stretto/docs", "pending"), ("stretto/test", "pending")]
    assert sent[2:] == [("stretto/docs", "success")]
    await reported.set(newer, status="success")
    await reported.report(client)
    assert reported.states()[3:] == ["success"]


async def test_status_that_came_while_another_was_sent_is_sent_after_it(
    reported: Reported, client: httpx2.AsyncClient
) -> None:
    """One sender at a time for a commit's context: the newest is the last that arrives."""
    await reported.add_forge()
    number = await reported.add_run()
    await reported.reporter.sweep()
    outbox = Outbox(reported.base.store.tables, reported.base.clock)
    (held,) = await outbox.take(10)
    await reported.set(number, status="success")
    await reported.report(client)
    assert reported.states() == [], "somebody else is sending to this context"
    await outbox.settle(held)
    await reported.report(client)
    assert reported.states() == ["success"]


async def test_sender_that_died_is_followed_by_another(reported: Reported, client: httpx2.AsyncClient) -> None:
    """What it held is due again when its time is over; what it would have noted later counts for nothing."""
    await reported.add_forge()
    await reported.add_run()
    await reported.reporter.sweep()
    outbox = Outbox(reported.base.store.tables, reported.base.clock)
    (dead,) = await outbox.take(10)
    await reported.report(client)
    assert reported.states() == []
    reported.base.clock.at += timedelta(seconds=CLAIM_S)
    await reported.report(client)
    assert reported.states() == ["pending"]
    await outbox.postpone(dead, "too late")
    assert await reported.outbox() == [("pending", 1, 0, None)]


async def test_two_reporters_send_each_status_once(reported: Reported, client: httpx2.AsyncClient) -> None:
    """Several processes look at the same runs at the same time."""
    await reported.add_forge()
    for index in range(10):
        await reported.add_run(name=f"p{index}")
    await asyncio.gather(*(reported.report(client) for _ in range(4)))
    assert sorted(it.body["context"] for it in reported.server.sent) == sorted(
        f"stretto/p{index}" for index in range(10)
    )


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
async def test_status_is_sent_again_after_an_error_that_passes(
    reported: Reported, client: httpx2.AsyncClient, status: int
) -> None:
    """With longer pauses each time; what the forge has said stays readable."""
    await reported.add_forge()
    await reported.add_run()
    reported.server.answer(status, "come back")
    reported.server.answer(status, "come back")
    await reported.report(client)
    assert await reported.outbox() == [("pending", 0, 1, f"{status}: come back")]
    for pause_s in (FIRST_PAUSE_S, 2 * FIRST_PAUSE_S):
        reported.base.clock.at += timedelta(seconds=pause_s - 0.1)
        before = len(reported.server.sent)
        await reported.report(client)
        assert len(reported.server.sent) == before, "not yet"
        reported.base.clock.at += timedelta(seconds=0.1)
        await reported.report(client)
    assert reported.states() == ["pending"] * 3
    assert await reported.outbox() == [("pending", 1, 2, None)]


async def test_forge_that_asks_to_be_left_alone_is(reported: Reported, client: httpx2.AsyncClient) -> None:
    """Retry-After counts more than our own pauses; a 403 with it is no refusal."""
    await reported.add_forge()
    await reported.add_run()
    reported.server.answer(403, "secondary rate limit", Retry_After="90")
    await reported.report(client)
    reported.base.clock.at += timedelta(seconds=89)
    await reported.report(client)
    assert len(reported.server.sent) == 1
    reported.base.clock.at += timedelta(seconds=1)
    await reported.report(client)
    assert len(reported.server.sent) == 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 1.0),
        ({"retry-after": "999999"}, LONGEST_WAIT_S),
        ({"retry-after": "Mon, 02 Mar 2026 08:30:20 GMT"}, 20.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1772440230"}, 30.0),
        ({"x-ratelimit-remaining": "1", "x-ratelimit-reset": "1772440230"}, None),
    ],
)
def test_wait_that_a_forge_asks_for_is_understood(headers: dict[str, str], seconds: float | None) -> None:
    """As seconds, as a date, as GitHub's reset; never longer than an hour."""
    now = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)
    assert wait_of(httpx2.Response(429, headers=headers), now) == seconds


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "github"), (403, "gitea"), (404, "gitlab"), (422, "github"), (302, "github")]
)
async def test_status_that_is_refused_is_given_up_with_the_reason(
    reported: Reported, client: httpx2.AsyncClient, status: int, kind: str
) -> None:
    """Sending it again would not help; the next status is sent all the same. No redirect is followed, with no token."""
    await reported.add_forge(kind)
    number = await reported.add_run()
    reported.server.answer(status, f"no, not with {TOKEN}", Location=f"{reported.server.url}/elsewhere")
    await reported.report(client)
    assert await reported.outbox() == [("pending", 1, 0, f"{status}: no, not with ***")]
    reported.base.clock.at += timedelta(days=1)
    await reported.report(client)
    assert len(reported.server.sent) == 1
    await reported.set(number, status="success")
    await reported.report(client)
    assert (await reported.outbox())[0][:2] == ("success", 1)
    assert all("elsewhere" not in it.path for it in reported.server.sent)


async def test_gitlab_that_has_the_state_already_is_content(reported: Reported, client: httpx2.AsyncClient) -> None:
    """It refuses what changes nothing: sent twice after a crash, a status is settled."""
    await reported.add_forge("gitlab")
    await reported.add_run()
    reported.server.answer(400, '{"message":"Cannot transition status via :enqueue from :pending"}')
    await reported.report(client)
    assert await reported.outbox() == [("pending", 1, 0, None)]


async def test_forge_that_hangs_up_or_is_away_is_tried_again(reported: Reported, client: httpx2.AsyncClient) -> None:
    """A connection that ends too early, and one that is never made."""
    forge = await reported.add_forge()
    await reported.add_run()
    reported.server.answers.append(None)
    await reported.report(client)
    ((_, settled, tries, error),) = await reported.outbox()
    assert (settled, tries) == (0, 1)
    assert "RemoteProtocolError" in error
    await reported.add_forge(api_url="http://127.0.0.1:1")
    reported.base.clock.at += timedelta(seconds=LONGEST_PAUSE_S)
    await reported.report(client)
    ((_, settled, tries, error),) = await reported.outbox()
    assert (settled, tries) == (0, 2)
    assert "ConnectError" in error
    await reported.add_forge(api_url=forge.api_url)
    reported.base.clock.at += timedelta(seconds=LONGEST_PAUSE_S)
    await reported.report(client)
    assert (await reported.outbox())[0][1] == 1


async def test_forge_that_does_not_answer_is_tried_again(
    reported: Reported, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not keep the loop for longer than the time-out."""
    monkeypatch.setattr("stretto.triggers.status.TIMEOUT_S", 0.05)
    await reported.add_forge()
    await reported.add_run()
    reported.server.stalled = True
    await reported.report(client)
    assert [row[:3] for row in await reported.outbox()] == [("pending", 0, 1)]
    assert "TimeoutError" in (await reported.outbox())[0][3]


async def test_status_that_can_not_be_sent_for_a_day_is_given_up(
    reported: Reported, client: httpx2.AsyncClient
) -> None:
    """Pauses grow to ten minutes, and after a day nobody waits for it."""
    await reported.add_forge(api_url="http://127.0.0.1:1")
    await reported.add_run()
    for _ in range(400):
        await reported.report(client)
        ((_, settled, tries, error),) = await reported.outbox()
        if settled:
            break
        reported.base.clock.at += timedelta(seconds=LONGEST_PAUSE_S)
    assert tries == 24 * 6 + 1
    assert error.startswith(f"given up after {tries + 1} tries: ConnectError")


async def test_outbox_survives_a_restart(reported: Reported, client: httpx2.AsyncClient, tmp_path: Path) -> None:
    """What one process noticed another one sends."""
    await reported.add_forge()
    await reported.add_run()
    await reported.reporter.sweep()
    after = StatusReporter(reported.base.store, reported.base.clock, home=tmp_path)
    assert await after.send_due(client) == 1
    assert reported.states() == ["pending"]
    assert "target_url" not in reported.server.sent[0].body


@pytest.mark.parametrize(
    ("by", "every_run", "repository", "told"),
    [
        ("hook/0123456789abcdef", False, ADDRESS, True),
        ("schedule/0123456789abcdef", False, ADDRESS, True),
        ("ada", False, ADDRESS, False),
        ("ada", True, ADDRESS, True),
        ("ada", True, f"git@{HOST}:Acme/words.git", True),
        ("ada", True, f"ssh://git@{HOST}:2222/acme/words.git", True),
        ("ada", True, "https://evil.example/acme/words", False),
        ("ada", True, f"https://{HOST}.evil.example/acme/words", False),
        ("ada", True, f"https://{HOST}/../../user/words", False),
        ("ada", True, f"https://{HOST}/acme", False),
        ("ada", True, "/srv/git/words", False),
    ],
)
async def test_only_runs_of_the_forge_are_told_of(
    reported: Reported, client: httpx2.AsyncClient, by: str, every_run: bool, repository: str, told: bool
) -> None:
    """By default what hooks and schedules started: their definition is the commit's own, not one that somebody sent."""
    await reported.add_forge(every_run=every_run)
    await reported.add_run(by=by, repository=repository)
    await reported.report(client)
    assert bool(reported.server.sent) is told


async def test_retry_of_a_triggered_run_is_told_of(reported: Reported, client: httpx2.AsyncClient) -> None:
    """Whoever asked for it: it is the same spec; a retry of a run that was not told of is not."""
    await reported.add_forge()
    first, other = await reported.add_run(), await reported.add_run(by="ada", name="mine")
    retry, again, not_told = [await reported.add_run(by="ada") for _ in range(3)]
    await reported.set(retry, retry_of=first)
    await reported.set(again, retry_of=retry, status="success")
    await reported.set(not_told, retry_of=other, status="failed")
    await reported.report(client)
    assert [it.body["description"] for it in reported.server.sent] == [f"Run {again}: success"]


async def test_run_that_can_not_be_compiled_is_told_of_by_the_commit_it_was_asked_for(
    reported: Reported, client: httpx2.AsyncClient
) -> None:
    """A bad definition shows on the commit that has it, though the run never got as far as to resolve it."""
    await reported.add_forge()
    request = RunRequest(repository=ADDRESS, branch="main", commit=COMMIT, by="hook/0123456789abcdef")
    ((row, _),) = await reported.base.service.accept(request)
    await reported.report(client)
    assert reported.states() == [], "its pipeline has no name yet"
    await reported.set(row.number, status="failed", ended_at=1)
    await reported.report(client)
    assert [(it.path.rpartition("/")[2], it.body["state"]) for it in reported.server.sent] == [(COMMIT, "failure")]


async def test_run_before_the_forge_was_known_is_not_told_of(reported: Reported, client: httpx2.AsyncClient) -> None:
    """A forge that is added gets no statuses of years ago."""
    await reported.add_run()
    forge = Forge(HOST, "github", reported.server.url, token=TOKEN)
    later = datetime.now(UTC) + timedelta(seconds=1)
    await ForgeTable(reported.base.store.tables).put(forge, now=later)
    await reported.report(client)
    assert reported.server.sent == []


async def test_run_that_is_on_disk_later_than_a_higher_number_is_found(
    reported: Reported, client: httpx2.AsyncClient
) -> None:
    """Numbers are given before transactions end: those below the cursor are looked at again."""
    await reported.add_forge()
    first = await reported.add_run()
    await reported.base.store.tables.write(
        ("INSERT INTO status_cursor (id, number) VALUES (1, ?)", (first + MARGIN - 1,))
    )
    await reported.report(client)
    assert len(reported.server.sent) == 1


async def test_sweep_writes_nothing_where_nothing_changed(
    reported: Reported, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes wake those who wait for a change: two reporters would keep each other awake for ever."""
    await reported.add_forge()
    await reported.add_run()
    await reported.add_run(by="ada")
    await reported.report(client)

    async def refuse(*statements: object) -> None:
        raise AssertionError(statements)

    monkeypatch.setattr(reported.base.store.tables, "write", refuse)
    await reported.report(client)


async def test_loop_sends_by_itself_and_goes_on_after_a_fault(
    reported: Reported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is accepted is told of without anybody asking, also after the store failed once."""
    monkeypatch.setattr("stretto.triggers.status.RETRY_S", 0.0)
    monkeypatch.setattr("stretto.triggers.status.BREATH_S", 0.0)
    failed = asyncio.Event()
    sweep = reported.reporter.sweep

    async def fail_once() -> None:
        if not failed.is_set():
            failed.set()
            raise OSError("the store is away")
        await sweep()

    monkeypatch.setattr(reported.reporter, "sweep", fail_once)
    await reported.add_forge()
    loop = asyncio.create_task(reported.reporter.serve())
    try:
        await failed.wait()
        await reported.add_run()
        async with asyncio.timeout(20):
            while not reported.server.sent:
                await reported.base.store.wait_for_change(0.1)
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
    assert reported.states() == ["pending"]


async def test_prune_keeps_what_is_needed(reported: Reported, client: httpx2.AsyncClient) -> None:
    """Settled statuses of a month ago go, with the runs that are looked at no more; what is still to be sent stays."""
    await reported.add_forge()
    number = await reported.add_run()
    await reported.add_run(name="docs")
    await reported.report(client)
    await reported.set(number, status="success")
    await reported.reporter.sweep()
    await reported.base.store.tables.write(("UPDATE status_cursor SET number = ?", (number + MARGIN + 1,)))
    reported.base.clock.at += timedelta(days=31)
    await reported.reporter._notice.prune()
    assert await reported.outbox() == [("success", 0, 0, None)]
    assert await reported.base.store.tables.read("SELECT run FROM status_run WHERE finished = 0") == [(number + 1,)]
    await reported.set(number, status="success")
    await reported.report(client)
    assert reported.states()[-1] == "success"


@pytest.mark.parametrize("source", ["token", "token_env", "token_file"])
async def test_token_comes_from_store_variable_or_file(
    reported: Reported, client: httpx2.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """Wherever it is, it is read when it is needed, and the outbox waits for it to be there."""
    values = {"token": TOKEN, "token_env": "STRETTO_FORGE_TEST", "token_file": "test"}
    await reported.add_forge(**{"token": None, source: values[source]})
    await reported.add_run()
    if source != "token":
        await reported.report(client)
        assert reported.server.sent == []
        assert (await reported.outbox())[0][1:3] == (0, 1)
    monkeypatch.setenv("STRETTO_FORGE_TEST", TOKEN)
    (tmp_path / "forges").mkdir()
    (tmp_path / "forges" / "test").write_text(f"{TOKEN}\n")
    reported.base.clock.at += timedelta(seconds=LONGEST_PAUSE_S)
    await reported.report(client)
    assert reported.server.sent[0].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "svn"},
        {"host": ""},
        {"host": "a/b"},
        {"host": "a\x00"},
        {"api_url": ""},
        {"api_url": "ftp://x"},
        {"api_url": "https://user:pw@x"},
        {"api_url": "https://x?a=b"},
        {"api_url": "https://x:99999"},
        {"api_url": "file:///etc/passwd"},
        {"token": None},
        {"token_env": "STRETTO_FORGE_X"},
        {"token": None, "token_env": "PATH"},
        {"token": None, "token_env": "STRETTO_FORGE_"},
        {"token": None, "token_file": "../stretto.db"},
        {"token": None, "token_file": "/etc/passwd"},
        {"token": None, "token_file": ".."},
        {"token": ""},
    ],
)
def test_forge_that_can_not_work_or_would_leak_is_refused(changes: dict[str, Any]) -> None:
    """No variable but those for it, no file but in its directory, no address but of an API."""
    forge = Forge(HOST, "gitea", default_url("gitea", HOST), token=TOKEN)
    forge.check()
    assert TOKEN not in repr(forge)
    with pytest.raises(InputError):
        replace(forge, **changes).check()


@pytest.mark.parametrize(
    ("kind", "host", "url"),
    [
        ("github", "github.com", "https://api.github.com"),
        ("github", "github.example.com", "https://github.example.com/api/v3"),
        ("gitlab", "gitlab.com", "https://gitlab.com/api/v4"),
        ("forgejo", "codeberg.org", "https://codeberg.org/api/v1"),
    ],
)
def test_address_of_an_api_is_known_by_its_kind(kind: str, host: str, url: str) -> None:
    """Who uses the usual one need not say it."""
    assert default_url(kind, host) == url
