"""Hooks, deliveries, schedules and forges over the API: who may, what is told, what is never told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from stretto.core.ports import RunFilter
from tests.support.api import Server
from tests.unit.triggers import payload

HOOK = {
    "kind": "github",
    "repository": "https://github.com/acme/words",
    "branches": ["main"],
    "pipelines": ["test"],
    "secret": payload.GITHUB_SECRET,
}
SCHEDULE = {
    "cron": "30 2 * * *",
    "zone": "Europe/Berlin",
    "repository": "https://github.com/acme/words",
    "branch": "main",
    "variables": {"FULL": "1"},
}
FORGE = {"host": "git.example.com", "kind": "gitea", "token": "a-token-that-nobody-may-read"}
BODY = payload.body_of(payload.github_push())
HEADERS = payload.github_headers(BODY)


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that may do everything."""
    async with await server.client("admin") as client:
        yield client


@pytest.fixture
async def nobody(server: Server) -> AsyncIterator[httpx2.AsyncClient]:
    """A client without a token, as forges are."""
    async with await server.client(None) as client:
        yield client


async def make(client: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Make something and return the answer."""
    answer = await client.post(f"/api/v1/{path}", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_delivery_without_a_token_starts_the_run_of_its_hook(
    server: Server, admin: httpx2.AsyncClient, nobody: httpx2.AsyncClient
) -> None:
    """Its signature lets it in: 202 and the run; again 200 and the same; not wanted 200 and why."""
    hook = await make(admin, "hooks", HOOK)
    first = await nobody.post(hook["path"], content=BODY, headers=HEADERS)
    assert first.status_code == 202
    (run,) = first.json()["runs"]
    assert first.json() == {"delivery": HEADERS["x-github-delivery"], "ignored": None, "runs": [run], "again": False}
    again = await nobody.post(hook["path"], content=BODY, headers=HEADERS)
    assert (again.status_code, again.json()) == (200, first.json() | {"again": True})
    rows = await server.service.list_runs(RunFilter(by=f"hook/{hook['id']}"))
    assert [(row.id, row.name, row.repository) for row in rows] == [(run, "test", HOOK["repository"])]
    other = payload.body_of(payload.github_push(ref="refs/heads/faster"))
    ignored = await nobody.post(hook["path"], content=other, headers=payload.github_headers(other))
    assert (ignored.status_code, ignored.json()["ignored"]) == (200, "no branch pattern matches faster")
    listed = (await admin.get(f"/api/v1/hooks/{hook['id']}/deliveries")).json()["deliveries"]
    assert [(it["branch"], it["ignored"], it["runs"]) for it in listed if it["branch"] == "main"] == [
        ("main", None, [run])
    ]
    assert len(listed) == 2


async def test_delivery_that_is_not_signed_is_answered_the_same_whether_the_hook_exists(
    admin: httpx2.AsyncClient, nobody: httpx2.AsyncClient
) -> None:
    """404 and the same words, for a hook that is there and for one that is not; a token does not help."""
    hook = await make(admin, "hooks", HOOK)
    answers = set()
    for client in (nobody, admin):
        for hook_id in (hook["id"], "0" * 16, "x", "%00", "%F0%9F%92%A5"):
            for headers in ({}, HEADERS | {"x-hub-signature-256": "sha256=" + "0" * 64}, {"x-gitlab-token": "x" * 20}):
                answer = await client.post(f"/api/v1/webhooks/{hook_id}", content=BODY, headers=headers)
                problem = answer.json()
                answers.add((answer.status_code, problem["type"], problem["detail"], problem.get("hint")))
    assert len(answers) == 1
    assert answers.pop()[0] == 404


async def test_delivery_that_is_too_large_or_no_payload_is_refused(
    admin: httpx2.AsyncClient, nobody: httpx2.AsyncClient
) -> None:
    """The server's bound holds for deliveries too; what is signed and no JSON is bad input."""
    hook = await make(admin, "hooks", HOOK)
    large = b"x" * (1024 * 1024 + 1)
    assert (await nobody.post(hook["path"], content=large, headers=HEADERS)).status_code == 413
    answer = await nobody.post(hook["path"], content=b"{", headers=payload.github_headers(b"{"))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_secret_is_told_once_and_token_never(admin: httpx2.AsyncClient, server: Server) -> None:
    """The secret is in the answer to the creation, made by us where none was given, and in no other answer or audit entry."""
    given = await make(admin, "hooks", HOOK)
    made = await make(admin, "hooks", {key: value for key, value in HOOK.items() if key != "secret"})
    assert given["secret"] == HOOK["secret"]
    assert len(made["secret"]) == 64
    put = await admin.post("/api/v1/forges", json=FORGE)
    assert put.json() == {
        "host": "git.example.com",
        "kind": "gitea",
        "api_url": "https://git.example.com/api/v1",
        "token": "stored",
        "every_run": False,
    }
    await server.gate.audit.flush()
    told = "".join(
        [
            put.text,
            (await admin.get("/api/v1/hooks")).text,
            (await admin.patch(f"/api/v1/hooks/{given['id']}", json={"enabled": False})).text,
            (await admin.get("/api/v1/forges")).text,
            (await admin.get("/api/v1/audit")).text,
        ]
    )
    assert "forge.set" in told
    assert not any(secret in told for secret in (given["secret"], made["secret"], str(FORGE["token"])))


async def test_hook_is_listed_disabled_and_deleted(admin: httpx2.AsyncClient, nobody: httpx2.AsyncClient) -> None:
    """A disabled one says so to the forge; a deleted one is as if it had never been."""
    hook = await make(admin, "hooks", HOOK)
    (listed,) = (await admin.get("/api/v1/hooks")).json()["hooks"]
    assert listed == {key: value for key, value in hook.items() if key != "secret"}
    await admin.patch(f"/api/v1/hooks/{hook['id']}", json={"enabled": False})
    assert (await nobody.post(hook["path"], content=BODY, headers=HEADERS)).json()["ignored"] == "the hook is disabled"
    assert (await admin.delete(f"/api/v1/hooks/{hook['id']}")).status_code == 204
    assert (await admin.delete(f"/api/v1/hooks/{hook['id']}")).status_code == 404
    assert (await nobody.post(hook["path"], content=BODY, headers=HEADERS)).status_code == 404


async def test_schedule_is_made_changed_and_deleted(admin: httpx2.AsyncClient) -> None:
    """What is not named in a change stays; the next time follows from now on."""
    made = await make(admin, "schedules", SCHEDULE)
    assert made["next_at"] == "2030-01-01T01:30:00Z"
    path = f"/api/v1/schedules/{made['id']}"
    changed = (await admin.patch(path, json={"cron": "@daily", "zone": "UTC", "pipelines": ["nightly"]})).json()
    news = {"cron": "@daily", "zone": "UTC", "pipelines": ["nightly"], "next_at": "2030-01-02T00:00:00Z"}
    assert changed == made | news
    disabled = (await admin.patch(path, json={"enabled": False})).json()
    assert disabled == changed | {"enabled": False, "next_at": None}
    assert (await admin.get("/api/v1/schedules")).json() == {"schedules": [disabled]}
    assert (await admin.delete(path)).status_code == 204
    assert (await admin.patch(path, json={})).status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("hooks", HOOK | {"kind": "svn"}),
        ("hooks", HOOK | {"secret": "short"}),
        ("hooks", HOOK | {"events": []}),
        ("hooks", HOOK | {"events": ["star"]}),
        ("hooks", HOOK | {"unknown": 1}),
        ("hooks", HOOK | {"repository": "/etc"}),
        ("hooks", HOOK | {"repository": "ext::sh -c id"}),
        ("hooks", HOOK | {"repository": "https://user:pw@github.com/acme/words"}),
        ("hooks", HOOK | {"driver": "docker"}),
        ("hooks", HOOK | {"priority": 10**12}),
        ("hooks", HOOK | {"branches": ["x"] * 101}),
        ("schedules", SCHEDULE | {"cron": "* * * *"}),
        ("schedules", SCHEDULE | {"cron": "* * * * * *"}),
        ("schedules", SCHEDULE | {"zone": "../../etc/passwd"}),
        ("schedules", SCHEDULE | {"branch": "a\x00b"}),
        ("schedules", SCHEDULE | {"repository": "words"}),
    ],
)
async def test_hook_or_schedule_that_can_not_work_is_refused(
    admin: httpx2.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    """422 with a problem, and nothing is stored."""
    answer = await admin.post(f"/api/v1/{path}", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"].startswith("urn:stretto:problem:")
    assert (await admin.get(f"/api/v1/{path}")).json() == {path: []}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "hooks"),
        ("POST", "hooks"),
        ("PATCH", "hooks/x"),
        ("DELETE", "hooks/x"),
        ("GET", "hooks/x/deliveries"),
        ("GET", "schedules"),
        ("POST", "schedules"),
        ("PATCH", "schedules/x"),
        ("DELETE", "schedules/x"),
        ("GET", "forges"),
        ("POST", "forges"),
        ("DELETE", "forges/x"),
    ],
)
async def test_routes_need_a_token_of_their_scope(server: Server, method: str, path: str) -> None:
    """Reading hooks and schedules takes `read`, all else `admin`: what is made outlives the token that made it."""
    async with await server.client(None) as client:
        assert (await client.request(method, f"/api/v1/{path}")).status_code == 401
    async with await server.client("run") as client:
        status = (await client.request(method, f"/api/v1/{path}")).status_code
    reads = method == "GET" and path != "forges"
    assert status in ({200, 404} if reads else {403})


async def test_token_that_is_bound_sees_and_makes_what_it_is_for(server: Server, admin: httpx2.AsyncClient) -> None:
    """Hooks and schedules of other repositories do not exist for it, and forges are none of its business."""
    hook, schedule = await make(admin, "hooks", HOOK), await make(admin, "schedules", SCHEDULE)
    async with await server.client("admin", "https://github.com/other/*") as bound:
        assert (await bound.get("/api/v1/hooks")).json() == {"hooks": []}
        assert (await bound.get("/api/v1/schedules")).json() == {"schedules": []}
        assert (await bound.post("/api/v1/hooks", json=HOOK)).status_code == 403
        assert (await bound.post("/api/v1/schedules", json=SCHEDULE)).status_code == 403
        for path in (f"hooks/{hook['id']}", f"schedules/{schedule['id']}"):
            there, missing = await bound.delete(f"/api/v1/{path}"), await bound.delete(f"/api/v1/{path[:-1]}z")
            assert (there.status_code, missing.status_code) == (404, 404)
        assert (await bound.get("/api/v1/forges")).status_code == 403
        await make(bound, "hooks", HOOK | {"repository": "https://github.com/other/words"})
    assert len((await admin.get("/api/v1/hooks")).json()["hooks"]) == 2


@pytest.mark.parametrize(
    ("host", "body"),
    [
        ("git.example.com", {"kind": "gitea"}),
        ("git.example.com", FORGE | {"token_env": "STRETTO_FORGE_X"}),
        ("git.example.com", {"kind": "gitea", "token_env": "HOME"}),
        ("git.example.com", {"kind": "gitea", "token_file": "../../etc/passwd"}),
        ("git.example.com", FORGE | {"api_url": "https://user@git.example.com"}),
        ("git_example", {"kind": "gitea", "token": "x"}),
    ],
)
async def test_forge_that_can_not_work_or_would_leak_is_refused(
    admin: httpx2.AsyncClient, host: str, body: dict[str, Any]
) -> None:
    """No variable and no file but those for it."""
    assert (await admin.post("/api/v1/forges", json={"host": host} | body)).status_code == 422
    assert (await admin.get("/api/v1/forges")).json() == {"forges": []}


async def test_forge_is_replaced_and_deleted(admin: httpx2.AsyncClient) -> None:
    """One for each host."""
    await admin.post("/api/v1/forges", json=FORGE | {"host": "Git.example.com"})
    news = {
        "host": "git.example.com",
        "kind": "gitea",
        "token_env": "STRETTO_FORGE_X",
        "every_run": True,
        "api_url": "https://api.example.com",
    }
    assert (await admin.post("/api/v1/forges", json=news)).json()["token"] == "variable STRETTO_FORGE_X"
    assert len((await admin.get("/api/v1/forges")).json()["forges"]) == 1
    assert (await admin.delete("/api/v1/forges/git.example.com")).status_code == 204
    assert (await admin.delete("/api/v1/forges/git.example.com")).status_code == 404
