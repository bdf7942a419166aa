"""Tokens, audit log, deletion, measures and versions over the API."""

from __future__ import annotations

from stretto import __version__
from tests.support.api import Server
from tests.unit.doors.rest.conftest import Place


async def test_token_is_made_used_listed_and_revoked(server: Server) -> None:
    """A token is told once, opens what its scope says, shows when it was used, and opens nothing once revoked."""
    async with await server.client("admin") as admin:
        made = (await admin.post("/api/v1/tokens", json={"name": "ci", "scope": "read"})).json()
        async with server.client_with({"Authorization": f"Bearer {made['token']}"}) as client:
            before = await client.get("/api/v1/runs")
            await server.gate.register.note_use()
            revoked = await admin.delete(f"/api/v1/tokens/{made['id']}")
            after = await client.get("/api/v1/runs")
        listed = (await admin.get("/api/v1/tokens")).json()["tokens"]
    assert (before.status_code, after.status_code) == (200, 401)
    (mine,) = [token for token in listed if token["id"] == made["id"]]
    assert mine["used_at"] is not None
    assert mine == revoked.json()
    assert mine["revoked_at"] is not None
    assert "token" not in mine


async def test_audit_log_says_who_did_what(server: Server, made: Place) -> None:
    """What was done and what was refused is in the log, newest first, with who, what, from where and what came of it."""
    async with await server.client("run") as client:
        await client.post("/api/v1/runs", json={"repository": str(made.allowed)})
        await client.post("/api/v1/runs/3/cancel")
        await client.get("/api/v1/tokens")
    async with server.client_with({"Authorization": "Bearer nonsense"}) as stranger:
        await stranger.get("/api/v1/runs")
    await server.gate.audit.flush()
    async with await server.client("admin") as admin:
        page = (await admin.get("/api/v1/audit?limit=6")).json()
        rest = (await admin.get(f"/api/v1/audit?before={page['next']}")).json() if page["next"] else {"entries": []}
    told = [(it["who"], it["action"], it["target"], it["outcome"]) for it in (*page["entries"], *rest["entries"])]
    assert told[0][1] == "token.create"
    assert told[1:5] == [
        ("", "login", "/api/v1/runs", "refused"),
        ("run of tests", "GET /api/v1/tokens", "", "refused"),
        ("run of tests", "run.cancel", "run 3", "done"),
        ("run of tests", "run.submit", "run 3", "done"),
    ]
    assert {it["address"] for it in page["entries"][1:5]} == {"127.0.0.1"}


async def test_gc_deletes_what_the_caller_does_not_keep(server: Server) -> None:
    """The body outranks the settings; a dry run deletes nothing."""
    server.time.pass_s(0)
    async with await server.client("admin") as client:
        dry = (await client.post("/api/v1/gc", json={"keep_days": 0, "dry_run": True})).json()
        there = (await client.get("/api/v1/runs")).json()["runs"]
        done = (await client.post("/api/v1/gc", json={"keep_days": 0, "max_bytes": 0})).json()
        left = (await client.get("/api/v1/runs")).json()["runs"]
    assert (dry["runs"], dry["freed_bytes"], len(there)) == (2, 0, 2)
    assert (done["runs"], left) == (2, [])
    assert done["freed_bytes"] > 0


async def test_metrics_count_requests_and_runs(server: Server, made: Place) -> None:
    """Prometheus finds requests by route, runs by status and how many wait to be compiled."""
    async with await server.client("run") as client:
        await client.post("/api/v1/runs", json={"repository": str(made.allowed)})
        text = (await client.get("/metrics")).text
    lines = text.splitlines()
    assert 'stretto_http_requests_total{method="POST",route="/api/v1/runs",status="202"} 1.0' in lines
    assert 'stretto_runs{status="failed"} 2.0' in lines
    assert "stretto_queue_depth 1.0" in lines
    assert f'stretto_build_info{{version="{__version__}"}} 1.0' in lines


async def test_version_and_health_need_no_token(server: Server) -> None:
    """Who watches a server needs no token to see that it lives."""
    async with await server.client(None) as client:
        assert (await client.get("/api/v1/version")).json() == {"version": __version__, "api": "v1"}
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ready")).status_code == 200
        assert (await client.get("/metrics")).status_code == 401


async def test_dead_conductor_makes_a_server_not_ready(server: Server) -> None:
    """Where this process conducts, it is ready only while its conductor lives."""
    server.app.state.door = type(server.door)(
        server.door.waist, server.gate, server.door.settings, server.door.tables, server.door.metrics, lambda: False
    )
    async with await server.client(None) as client:
        answer = await client.get("/ready")
    assert answer.status_code == 503
    assert "conductor" in answer.json()["detail"]
