"""Attempts to get in where one may not: each is refused, in the way it should be, and nothing is changed by any."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest

from stretto.settings import Api, Settings
from stretto.waist import RunRequest
from stretto.wiring import open_service
from tests.support.api import Listening, listening
from tests.support.repository import make_repository

PIPELINE = """\
name: small
jobs:
  one:
    stage: test
    script: [mkdir out, echo secret > out/file, echo secret output]
    artifacts: {paths: [out]}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A server over a home with run 1 of `mine` and run 2 of `foreign`, and tokens by what they are."""

    listener: Listening
    root: Path
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The server; nothing that is tried may change what it holds."""
    root = tmp_path_factory.mktemp("access")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        for name in ("mine", "foreign", "outside"):
            (root / name).mkdir()
            make_repository(root / name / "repo", {"pipeline.yml": PIPELINE})
        (root / "mine" / "link").symlink_to(root / "outside" / "repo")
        api = Api(local_root=str(root / "mine"), max_body_mb=1, rate_per_minute=0)
        settings = replace(Settings(), home=root / "home", driver="process", api=api)

        async def run() -> None:
            async with open_service(settings) as service:
                for name in ("mine", "foreign"):
                    (row,) = await service.submit(RunRequest(repository=str(root / name / "repo")))
                    await service.conduct(row.id)

        asyncio.run(run())
    with listening(settings, failures_per_minute=0) as listener:
        server = listener.server
        tokens = {scope: listener.ask(server.token(scope)) for scope in ("read", "run", "admin")}
        tokens["bound"] = listener.ask(server.token("run", f"{root}/mine/*", "https://example.org/team/*"))
        tokens["bound admin"] = listener.ask(server.token("admin", f"{root}/mine/*"))
        tokens["expired"] = listener.ask(server.token("admin", lasts_s=10))
        tokens["revoked"] = listener.ask(server.token("admin"))
        revoked = tokens["revoked"].split("_")[1]
        with httpx2.Client(base_url=listener.url, headers=bearer(tokens["admin"])) as client:
            assert client.delete(f"/api/v1/tokens/{revoked}").status_code == 200
        server.time.pass_s(11)
        yield Place(listener, root, tokens)


def bearer(token: str) -> dict[str, str]:
    """Return the header that a token goes in."""
    return {"Authorization": f"Bearer {token}"}


READ, RUN, ADMIN = "read", "run", "admin"
RUNS = "/api/v1/runs"
TOKEN = {"name": "evil", "scope": "admin"}

WITHOUT = [
    ("no token", {}),
    ("empty", {"Authorization": ""}),
    ("scheme only", {"Authorization": "Bearer"}),
    ("nonsense", bearer("nonsense")),
    ("right shape, nobody's", bearer(f"stretto_{'0' * 12}_{'0' * 64}")),
    ("basic", {"Authorization": "Basic YWRtaW46YWRtaW4="}),
    ("none", bearer("null")),
    ("pattern", bearer("stretto_%_%")),
    ("SQL", bearer("stretto_' OR 1=1 --_x")),
    ("long", bearer("stretto_" + "a" * 8000)),
    ("cookie", {"Cookie": "Authorization=Bearer x; token=x"}),
    ("other header", {"X-Api-Key": "x", "X-Forwarded-User": "admin", "X-Original-URL": "/health"}),
    ("from loopback", {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1", "X-Real-IP": "127.0.0.1"}),
]


@pytest.mark.parametrize("headers", [it for _, it in WITHOUT], ids=[name for name, _ in WITHOUT])
@pytest.mark.parametrize("path", [RUNS, f"{RUNS}/1/jobs/one/log", f"{RUNS}/1/artifacts/one/out/file", "/metrics"])
def test_without_a_token_nobody_gets_in(place: Place, path: str, headers: dict[str, str]) -> None:
    """No token, or what is none, opens nothing that is about runs."""
    with httpx2.Client(base_url=place.listener.url) as client:
        answer = client.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert b"secret" not in answer.content


CHANGED = [
    ("expired", lambda tokens: tokens["expired"]),
    ("revoked", lambda tokens: tokens["revoked"]),
    ("one digit other", lambda tokens: tokens["admin"][:-1] + ("0" if tokens["admin"][-1] != "0" else "1")),
    ("one digit less", lambda tokens: tokens["admin"][:-1]),
    ("one digit more", lambda tokens: tokens["admin"] + "0"),
    ("capitals", lambda tokens: tokens["admin"].upper()),
    ("secret of another", lambda tokens: "_".join([*tokens["admin"].split("_")[:2], tokens["read"].split("_")[2]])),
    ("without its name", lambda tokens: tokens["admin"].removeprefix("stretto_")),
    ("id only", lambda tokens: tokens["admin"].split("_")[1]),
]


@pytest.mark.parametrize("change", [it for _, it in CHANGED], ids=[name for name, _ in CHANGED])
def test_token_that_is_not_quite_one_opens_nothing(place: Place, change: object) -> None:
    """A token that was good, or almost is one, is as good as none."""
    assert callable(change)
    with httpx2.Client(base_url=place.listener.url, headers=bearer(change(place.tokens))) as client:
        assert client.get(RUNS).status_code == 401


def test_token_in_the_address_opens_nothing(place: Place) -> None:
    """Tokens in addresses end up in logs, so that none is taken from there."""
    with httpx2.Client(base_url=place.listener.url) as client:
        for name in ("token", "access_token", "authorization"):
            assert client.get(RUNS, params={name: place.tokens["admin"]}).status_code == 401


SCOPES = [
    (READ, "POST", RUNS, {"repository": "https://example.org/r"}),
    (READ, "POST", "/api/v1/plan", {"repository": "https://example.org/r"}),
    (READ, "POST", f"{RUNS}/1/cancel", {}),
    (READ, "POST", f"{RUNS}/1/retry", {}),
    (READ, "POST", "/api/v1/uploads", {}),
    (READ, "GET", "/api/v1/tokens", None),
    (READ, "POST", "/api/v1/tokens", TOKEN),
    (READ, "GET", "/api/v1/audit", None),
    (READ, "POST", "/api/v1/gc", {}),
    (RUN, "GET", "/api/v1/tokens", None),
    (RUN, "POST", "/api/v1/tokens", TOKEN),
    (RUN, "DELETE", "/api/v1/tokens/000000000000", None),
    (RUN, "GET", "/api/v1/audit", None),
    (RUN, "POST", "/api/v1/gc", {"keep_days": 0}),
    ("bound admin", "GET", "/api/v1/tokens", None),
    ("bound admin", "POST", "/api/v1/tokens", TOKEN),
    ("bound admin", "DELETE", "/api/v1/tokens/000000000000", None),
    ("bound admin", "GET", "/api/v1/audit", None),
    ("bound admin", "POST", "/api/v1/gc", {"keep_days": 0}),
    ("bound", "GET", "/metrics", None),
]


@pytest.mark.parametrize(("who", "method", "path", "body"), SCOPES)
def test_scope_is_not_enough(place: Place, who: str, method: str, path: str, body: dict[str, object] | None) -> None:
    """What a token is not for it does not do, however else the method is written."""
    with httpx2.Client(base_url=place.listener.url, headers=bearer(place.tokens[who])) as client:
        tricks = {"X-HTTP-Method-Override": "GET", "X-Scope": "admin"}
        for headers in ({}, tricks):
            answer = client.request(method, path, json=body, headers=headers)
            assert answer.status_code == 403


FOREIGN = [
    ("GET", ""),
    ("GET", "/report"),
    ("GET", "/spec"),
    ("GET", "/stages/test"),
    ("GET", "/jobs/one"),
    ("GET", "/jobs/one/attempts/1"),
    ("GET", "/jobs/one/log"),
    ("GET", "/jobs/one/log?follow=1"),
    ("GET", "/events"),
    ("GET", "/artifacts"),
    ("GET", "/artifacts/one/out/file"),
    ("GET", "/artifacts.zip"),
    ("POST", "/cancel"),
    ("POST", "/retry"),
]


@pytest.mark.parametrize(("method", "path"), FOREIGN)
def test_foreign_run_is_not_there(place: Place, method: str, path: str) -> None:
    """Who is bound to repositories can't tell a run of another one from none at all, by number or id."""
    foreign = place.listener.ask(place.listener.server.service.find_run("2")).id
    with httpx2.Client(base_url=place.listener.url, headers=bearer(place.tokens["bound"])) as client:
        answers = [client.request(method, f"{RUNS}/{run}{path}") for run in ("2", foreign, foreign[:20], "77")]
        assert client.get(f"{RUNS}/1").status_code == 200
    assert [answer.status_code for answer in answers] == [404] * 4
    told = {
        answer.json()["detail"].replace(run, "X")
        for answer, run in zip(answers, ("2", foreign, foreign[:20], "77"), strict=True)
    }
    assert len(told) == 1


def test_lists_have_no_foreign_runs(place: Place) -> None:
    """A list shows a bound token its own runs only, whatever it filters by."""
    with httpx2.Client(base_url=place.listener.url, headers=bearer(place.tokens["bound"])) as client:
        for query in ("", "?limit=1", f"?repository={place.root}/foreign/repo", "?before=3&name=small"):
            found = client.get(f"{RUNS}{query}").json()["runs"]
            assert {run["repository"] for run in found} <= {f"{place.root}/mine/repo"}


ADDRESSES = [
    "/etc",
    "/",
    "{root}/outside/repo",
    "{root}/mine/../outside/repo",
    "{root}/mine/link",
    "{root}/mine/repo/../../foreign/repo",
    "file://{root}/outside/repo",
    "FILE:///etc",
    "file://localhost/etc",
    "../mine/repo",
    "mine/repo",
    "~root/repo",
    "ext::sh -c id",
    "fd::17",
    "git://example.org/r",
    "--upload-pack=id",
    "-oProxyCommand=id",
    "ssh://-oProxyCommand=id/r",
    "user@-oProxyCommand=id:r",
    "https://user:password@example.org/r",
    "https://example.org/team/../other/r",
    "https://example.org/team/%2e%2e/other/r",
    "https://example.org/team/%252e%252e/other/r",
    "git@example.org:team/../other",
    "https:///r",
    "https://example.org/a b\nc",
    "",
    " ",
]


@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize("address", ADDRESSES)
def test_address_that_leads_elsewhere_is_refused(place: Place, address: str, validate: bool) -> None:
    """Paths outside of what was set free, transports that run commands, options, passwords: none becomes a run."""
    body = {"repository": address.format(root=place.root), "validate": validate}
    with httpx2.Client(base_url=place.listener.url, headers=bearer(place.tokens["admin"])) as client:
        answers = [client.post(path, json=body) for path in (RUNS, "/api/v1/plan")]
    assert [answer.status_code for answer in answers] == [422, 422]


BOUND = [
    "https://example.org/other/r",
    "https://example.org.evil.example/team/r",
    "https://evil.example/https://example.org/team/r",
    "http://example.org/team/r",
    "https://example.org:444/team/r",
    "ssh://example.org/team/r",
    "git@example.org:team/r",
    "{root}/mine/link",
]


@pytest.mark.parametrize("address", BOUND)
def test_bound_token_starts_nothing_elsewhere(place: Place, address: str) -> None:
    """A token bound to `https://example.org/team/*` starts no run of what only looks like it."""
    body = {"repository": address.format(root=place.root)}
    with httpx2.Client(base_url=place.listener.url, headers=bearer(place.tokens["bound"])) as client:
        assert client.post(RUNS, json=body).status_code in (403, 422)


def test_bound_token_gets_nowhere_by_an_upload(place: Place) -> None:
    """An upload that nobody says the repository of, or of another repository, is nothing for a bound token."""
    headers = {
        "Content-Type": "application/x-git-packed-objects",
        "Stretto-Commit": "0" * 40,
        "Stretto-Repository": "https%3A//example.org/other/r",
    }
    with httpx2.Client(base_url=place.listener.url, headers=bearer(place.tokens["bound"])) as client:
        assert client.post("/api/v1/uploads", content=b"PACK", headers=headers).status_code == 403
        for more in ({}, {"repository": "https://example.org/team/r"}, {"repository": "x", "validate": True}):
            assert client.post(RUNS, json={"upload": "0" * 64} | more).status_code == 403


PATHS = [
    f"{RUNS}/../../../etc/passwd",
    f"{RUNS}/..%2f..%2f..%2fetc%2fpasswd",
    f"{RUNS}/%2e%2e/tokens",
    f"{RUNS}/1%00",
    f"{RUNS}/1;2",
    f"{RUNS}/1/../2",
    f"{RUNS}/1%20OR%201=1",
    f"{RUNS}/1/jobs/..%2f..%2f..%2fstretto.db/log",
    f"{RUNS}/1/jobs/../../2/log",
    f"{RUNS}/1/jobs/one%2f..%2f..%2f2/log",
    f"{RUNS}/1/jobs/%252e%252e%252f/log",
    f"{RUNS}/1/jobs/one/log/../../../../server.json",
    f"{RUNS}/1/jobs/one/attempts/..%2f1",
    f"{RUNS}/1/artifacts/one/..%2f..%2fstretto.db",
    f"{RUNS}/1/artifacts/one/../../../stretto.db",
    f"{RUNS}/1/artifacts/one//etc/passwd",
    f"{RUNS}/1/artifacts/one/%2fetc%2fpasswd",
    f"{RUNS}/1/artifacts/one/out/%2e%2e/%2e%2e/file",
    f"{RUNS}/1/artifacts/..%2f..%2f/out/file",
    f"{RUNS}/1/artifacts/one/out/file%00.txt",
    "/api/v1/../v1/tokens/..",
    "//api/v1/runs",
    "/api/v1//runs",
    "/API/V1/RUNS",
    "/stretto.db",
    "/server.json",
]


@pytest.mark.parametrize("path", PATHS)
def test_path_that_climbs_finds_nothing(place: Place, path: str) -> None:
    """A path goes to the server as it is written, and leads nowhere but to a refusal."""
    host, port = place.listener.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {host}",
            f"Authorization: Bearer {place.tokens['admin']}",
            "Connection: close",
        ]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    status = int(answer.split()[1])
    assert status in (404, 405, 422), answer
    assert b"application/problem+json" in answer
    assert b"root:" not in answer
    assert b"SQLite" not in answer


RAW = [
    ("two lengths", "POST /api/v1/runs HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n{}"),
    (
        "length and chunks",
        "POST /api/v1/runs HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("negative length", "POST /api/v1/runs HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n"),
    ("folded header", "GET /api/v1/runs HTTP/1.1\r\nHost: h\r\nAuthorization:\r\n Bearer x\r\n\r\n"),
    ("no request", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"),
    ("huge header", "GET /api/v1/runs HTTP/1.1\r\nHost: h\r\nX: " + "a" * 200_000 + "\r\n\r\n"),
    ("unknown method", "BREW /api/v1/runs HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"),
    ("other host", "GET http://evil.example/api/v1/runs HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"),
]


@pytest.mark.parametrize("text", [it for _, it in RAW], ids=[name for name, _ in RAW])
def test_request_that_is_malformed_is_refused(place: Place, text: str) -> None:
    """What parsers disagree about is answered with a refusal, and the server goes on."""
    host, port = place.listener.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        try:
            connection.sendall(text.encode("latin-1"))
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
        except OSError:
            answer = b""
    assert answer == b"" or 400 <= int(answer.split()[1]) < 500
    with httpx2.Client(base_url=place.listener.url) as client:
        assert client.get("/health").status_code == 200


def test_gigabyte_is_refused_early(place: Place) -> None:
    """A body of 1 GB is refused after the first megabyte, whether it says so before or not."""
    host, port = place.listener.url.removeprefix("http://").split(":")
    for how in ("Content-Length: 1073741824", "Transfer-Encoding: chunked"):
        head = f"POST {RUNS} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n{how}\r\n" + (
            f"Authorization: Bearer {place.tokens['run']}\r\n\r\n"
        )
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n" if "chunked" in how else b"x" * 65536
        sent = 0
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(head.encode())
            try:
                while sent < 1 << 30:
                    sent += connection.send(piece)
            except ConnectionError:
                pass
        assert sent < 16 << 20, "it was read on and on"


def test_nothing_of_all_this_left_a_trace_but_in_the_audit_log(place: Place) -> None:
    """After all attempts the runs and tokens are what they were, and the refused ones are on record."""
    with httpx2.Client(base_url=place.listener.url, headers=bearer(place.tokens["admin"])) as client:
        runs = client.get(RUNS).json()["runs"]
        tokens = client.get("/api/v1/tokens").json()["tokens"]
        place.listener.ask(place.listener.server.gate.audit.flush())
        entries = client.get("/api/v1/audit?limit=500").json()["entries"]
    assert [run["number"] for run in runs] == [2, 1]
    assert len(tokens) == len(place.tokens)
    assert not [token for token in tokens if token["name"] == "evil"]
    refused = [entry for entry in entries if entry["outcome"] == "refused"]
    assert len(refused) > 40
    assert not [entry for entry in entries if "stretto_" in str(entry)]
