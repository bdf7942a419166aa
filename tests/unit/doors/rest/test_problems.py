"""Every error is a problem: one shape, one media type, no page, no trace."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from stretto.core import errors
from stretto.doors.rest import problem
from stretto.settings import Api, Settings
from tests.support.api import Server, open_api

MEMBERS = {"type", "title", "status", "detail", "instance", "request_id"}


def check(answer: httpx2.Response, status: int) -> dict[str, object]:
    """Return the problem that an answer is, after holding it against the RFC."""
    body: dict[str, object] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, body["status"]) == (status, status)
    assert set(body) >= MEMBERS
    assert str(body["type"]).startswith("urn:stretto:problem:")
    return body


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v1/runs/", 404),
        ("GET", "/static/x.html", 404),
        ("PUT", "/api/v1/runs", 405),
        ("DELETE", "/health", 405),
        ("GET", "/api/v1/runs?limit=0", 422),
        ("GET", "/api/v1/runs?limit=x", 422),
        ("GET", "/api/v1/runs?status=green", 422),
        ("GET", "/api/v1/runs/..%2f..%2fetc%2fpasswd", 422),
        ("GET", "/api/v1/runs/99", 404),
        ("GET", "/api/v1/runs/0", 404),
        ("GET", "/api/v1/runs/%00", 422),
        ("GET", "/api/v1/runs/1/jobs/lint/attempts/0", 422),
        ("GET", "/api/v1/runs/1/jobs/lint/attempts/99999999999999999999", 422),
    ],
)
async def test_wrong_requests_are_problems(server: Server, method: str, path: str, status: int) -> None:
    """Unknown addresses, methods and values are told as problems that name the place."""
    async with await server.client("admin") as client:
        answer = await client.request(method, path)
    body = check(answer, status)
    if status == 405:
        assert "GET" in answer.headers["allow"]
    if status == 422:
        assert body["errors"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"repository": "\\ud800"}', "application/json", 400),
        (b"[]", "application/json", 422),
        (b"{}", "application/json", 422),
        (b"", "application/json", 422),
        (b'{"repository": 1}', "application/json", 422),
        (b'{"repository": "https://h/r", "branch": "a\\u0000b"}', "application/json", 422),
        (b'{"repository": "https://h/r", "unknown": 1}', "application/json", 422),
        (b'{"repository": "https://h/r", "priority": 1e99}', "application/json", 422),
        (b'{"repository": "https://h/r", "variables": {"a b": "x"}}', "application/json", 422),
        (b"repository=x", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
    ],
)
async def test_bodies_that_cannot_be_read_are_problems(server: Server, body: bytes, kind: str, status: int) -> None:
    """What is no JSON, not the right JSON, or says to be something else is refused, and nothing is stored."""
    async with await server.client("run") as client:
        answer = await client.post("/api/v1/runs", content=body, headers={"Content-Type": kind} if kind else {})
        check(answer, status)
        assert len((await client.get("/api/v1/runs")).json()["runs"]) == 2


async def test_values_of_a_body_are_not_repeated(server: Server) -> None:
    """A secret that was put into the wrong place does not come back, and so gets into nobody's log."""
    async with await server.client("run") as client:
        answer = await client.post("/api/v1/runs", json={"repository": "https://h/r", "priority": "s3cret"})
    check(answer, 422)
    assert "s3cret" not in answer.text


@pytest.mark.parametrize("announced", [True, False])
async def test_large_bodies_are_refused_by_what_comes(server: Server, announced: bool) -> None:
    """More than the limit is refused; a body that does not say how long it is, after no more than that."""
    given = 0

    async def chunks():
        nonlocal given
        for _ in range(1024):
            given += 1 << 16
            yield b"x" * (1 << 16)

    headers = {"Content-Type": "application/json"} | ({"Content-Length": str(1 << 26)} if announced else {})
    async with await server.client("run") as client:
        answer = await client.post("/api/v1/runs", content=chunks(), headers=headers)
    check(answer, 413)
    assert given <= (1 << 20) + (1 << 17)


async def test_length_that_lies_helps_nobody(server: Server) -> None:
    """A body that says to be short and is long is refused as well."""

    async def chunks():
        for _ in range(32):
            yield b"x" * (1 << 16)

    async with await server.client("run") as client:
        headers = {"Content-Type": "application/json", "Content-Length": "10"}
        check(await client.post("/api/v1/runs", content=chunks(), headers=headers), 413)


async def test_bug_is_told_without_trace_and_logged_with_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody foresaw is a 500 that says nothing but its id; the log has the rest under that id."""

    async def broken(reference: str) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(server.service, "find_run", broken)
    async with await server.client("read") as client:
        answer = await client.get("/api/v1/runs/1")
    body = check(answer, 500)
    assert "secret detail" not in answer.text
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert vars(record)["request_id"] == body["request_id"]


ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.StrettoError)]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_ours_is_a_problem(kind: type[errors.StrettoError]) -> None:
    """No error is forgotten: what the caller did wrong is told, what is the server's own affair is not."""
    made: errors.StrettoError
    if issubclass(kind, errors.DefinitionError):
        made = kind("pipeline.yml", [errors.Fault(1, 1, "rule", "private words")])
    elif issubclass(kind, errors.DriverError):
        made = kind("private words", reason="lost")
    else:
        made = kind("private words")
    told = problem.problem_of(made)
    assert told.status_code in problem.WORDS
    is_callers = issubclass(kind, errors.InputError | errors.RunBusyError)
    assert (told.status_code < 500) == is_callers
    if not is_callers:
        assert "private words" not in told.detail


async def test_store_that_is_away_is_told_as_such(settings: Settings, tmp_path: Path) -> None:
    """With its store gone the server is alive, not ready, and asks to try again."""
    async with open_api(replace(settings, api=Api())) as server:
        client = await server.client("read")
        await server.service.means.store.close()
        async with client:
            health, ready = await client.get("/health"), await client.get("/ready")
            server.time.pass_s(10)
            runs = await client.get("/api/v1/runs")
    assert health.json() == {"status": "ok"}
    check(ready, 503)
    assert check(runs, 503)["type"] == "urn:stretto:problem:store"
    assert runs.headers["retry-after"]
