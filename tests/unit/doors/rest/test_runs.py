"""Routes for runs: what they answer, and that it is what the command line says."""

from __future__ import annotations

import asyncio

import pytest

from stretto.reports.row import row_from_json, row_to_json
from tests.support.api import Server
from tests.unit.doors.rest.conftest import Place

JOB = "/api/v1/runs/1/jobs/build%2Fapp"


async def test_submit_accepts_without_looking_at_the_repository(server: Server, made: Place) -> None:
    """A submission is answered with a pending run, its place, and no commit yet."""
    async with await server.client("run") as client:
        answer = await client.post("/api/v1/runs", json={"repository": str(made.allowed), "branch": "main"})
    (run,) = answer.json()["runs"]
    assert answer.status_code == 202
    assert answer.headers["location"] == "/api/v1/runs/3"
    assert (run["number"], run["status"], run["commit"], run["by"]) == (3, "pending", None, "run of tests")


async def test_submit_with_a_known_key_gives_the_same_run(server: Server, made: Place) -> None:
    """The same key again is answered with 200 and the run that is there; in the body or the header, it is one key."""
    body = {"repository": str(made.allowed)}
    async with await server.client("run") as client:
        first = await client.post("/api/v1/runs", json=body, headers={"Idempotency-Key": "k"})
        again = await client.post("/api/v1/runs", json=body | {"idempotency_key": "k"})
        differs = await client.post(
            "/api/v1/runs", json=body | {"idempotency_key": "k"}, headers={"Idempotency-Key": "l"}
        )
    assert (first.status_code, again.status_code, differs.status_code) == (202, 200, 422)
    assert first.json()["runs"][0]["id"] == again.json()["runs"][0]["id"]


@pytest.mark.parametrize("key", ["", "a b", "k" * 256, "\xe9"])
async def test_submit_refuses_a_malformed_key(server: Server, made: Place, key: str) -> None:
    """A key that is empty, too long or not visible is refused and nothing stored; without a token it is not looked at."""
    body, headers = {"repository": str(made.allowed)}, {"Idempotency-Key": key.encode("latin-1")}
    async with await server.client("run") as client, await server.client(None) as stranger:
        answer = await client.post("/api/v1/runs", json=body, headers=headers)
        unknown = await stranger.post("/api/v1/runs", json=body, headers=headers)
        runs = (await client.get("/api/v1/runs")).json()["runs"]
    assert (answer.status_code, unknown.status_code) == (422, 401)
    assert "idempotency-key" in answer.json()["detail"]
    assert [run["number"] for run in runs] == [2, 1]


async def test_submit_keeps_keys_of_callers_apart(server: Server, made: Place) -> None:
    """Somebody else's key never gives somebody else's run."""
    body = {"repository": str(made.allowed), "idempotency_key": "k"}
    numbers = []
    for _ in range(2):
        async with await server.client("run") as client:
            numbers.append((await client.post("/api/v1/runs", json=body)).json()["runs"][0]["number"])
    assert numbers == [3, 4]


async def test_submit_splits_pipelines_into_runs(server: Server, made: Place) -> None:
    """Each pipeline that is named becomes a run, all at once."""
    async with await server.client("run") as client:
        answer = await client.post("/api/v1/runs", json={"repository": str(made.allowed), "pipelines": ["a", "b", "a"]})
    assert [run["name"] for run in answer.json()["runs"]] == ["a", "b"]


async def test_submit_validated_tells_all_faults_and_stores_nothing(server: Server, made: Place) -> None:
    """With `validate`, a definition with faults is answered with all of them, and there is no run."""
    body = {"repository": str(made.allowed), "validate": True, "definition": "jobs: {a: {script: 1, foo: 2}}\n"}
    async with await server.client("run") as client:
        answer = await client.post("/api/v1/runs", json=body)
        runs = (await client.get("/api/v1/runs")).json()["runs"]
    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"].endswith(":definition")
    assert len(problem["faults"]) > 1
    assert len(runs) == 2


async def test_submit_validated_stores_a_compiled_run(server: Server, made: Place) -> None:
    """With `validate`, a good one is compiled when it is answered; with a key, it is known the second time."""
    body = {"repository": str(made.allowed), "validate": True, "idempotency_key": "v"}
    async with await server.client("run") as client:
        first = await client.post("/api/v1/runs", json=body)
        again = await client.post("/api/v1/runs", json=body)
        spec = await client.get("/api/v1/runs/3/spec")
    assert (first.status_code, again.status_code) == (202, 200)
    assert [job["name"] for job in spec.json()["jobs"]] == ["build/app", "lint"]


async def test_submitted_run_is_carried_out_by_a_conductor(server: Server, made: Place) -> None:
    """What was accepted is compiled and run, and its events can be followed to the end."""
    async with asyncio.TaskGroup() as group:
        group.create_task(server.worker.run())
        async with await server.client("run") as client:
            await client.post("/api/v1/runs", json={"repository": str(made.allowed)})
            answer = await client.get("/api/v1/runs/3/events", headers={"Accept": "text/event-stream"})
            run = (await client.get("/api/v1/runs/3")).json()
            measures = (await client.get("/metrics")).text.splitlines()
        await server.worker.drain()
    assert (run["status"], run["name"]) == ("failed", "small")
    assert '"kind":"run_ended"' in answer.text
    assert 'stretto_slots_used{driver="process"} 0.0' in measures
    assert answer.text.endswith("event: end\ndata: {}\n\n")


async def test_list_pages_and_filters(server: Server, made: Place) -> None:
    """Pages follow each other through `next`; filters are those of the command line."""
    async with await server.client("read") as client:
        first = (await client.get("/api/v1/runs?limit=1")).json()
        second = (await client.get(f"/api/v1/runs?limit=1&before={first['next']}")).json()
        failed = (await client.get("/api/v1/runs?status=failed&status=success&name=small")).json()
        none = (await client.get("/api/v1/runs", params={"repository": str(made.other), "branch": "no"})).json()
        mine = (await client.get("/api/v1/runs", params={"repository": str(made.other)})).json()
    assert ([run["number"] for run in first["runs"]], first["next"]) == ([2], 2)
    assert [run["number"] for run in second["runs"]] == [1]
    assert [run["number"] for run in failed["runs"]] == [2, 1]
    assert none["runs"] == []
    assert [run["number"] for run in mine["runs"]] == [2]


async def test_run_is_shown_as_the_command_line_shows_it(server: Server) -> None:
    """A run is the same JSON everywhere, and can be read back from it."""
    row = await server.service.find_run("1")
    async with await server.client("read") as client:
        data = (await client.get(f"/api/v1/runs/{row.id[:12]}")).json()
    assert data == row_to_json(row)
    assert row_to_json(row_from_json(data)) | {"duration_s": data["duration_s"]} == data


async def test_every_level_of_a_run_is_shown(server: Server) -> None:
    """Report, stage, job and attempt agree with each other; a slash in a name is written %2F."""
    async with await server.client("read") as client:
        report = (await client.get("/api/v1/runs/1/report")).json()
        stage = (await client.get("/api/v1/runs/1/stages/build")).json()
        job = (await client.get(JOB)).json()
        attempt = (await client.get(f"{JOB}/attempts/1")).json()
        missing = [
            await client.get(f"/api/v1/runs/1/{path}") for path in ("stages/no", "jobs/no", "jobs/lint/attempts/2")
        ]
    assert report["schema"] == "stretto.report/1"
    assert report["stages"][0] == {**stage, "jobs": [job]} | {"jobs": report["stages"][0]["jobs"]}
    assert stage["jobs"] == [job]
    assert job["attempts"] == [attempt]
    assert [answer.status_code for answer in missing] == [404, 404, 404]


async def test_spec_of_an_undefined_run_is_not_there_yet(server: Server, made: Place) -> None:
    """Until a run is compiled, its spec is a conflict and no empty graph."""
    async with await server.client("run") as client:
        await client.post("/api/v1/runs", json={"repository": str(made.allowed)})
        answer = await client.get("/api/v1/runs/3/spec")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:stretto:problem:undefined")


async def test_cancel_and_retry_want_the_right_state(server: Server, made: Place) -> None:
    """What is over can't be canceled, what is not over can't be retried; else both are accepted."""
    async with await server.client("run") as client:
        await client.post("/api/v1/runs", json={"repository": str(made.allowed)})
        answers = [
            await client.post("/api/v1/runs/1/cancel"),
            await client.post("/api/v1/runs/3/retry", json={}),
            await client.post("/api/v1/runs/3/cancel", json={"force": True}),
            await client.post("/api/v1/runs/1/retry", json={"failed_only": True}),
            await client.post("/api/v1/runs/1/cancel", json={"job": "no"}),
        ]
    assert [answer.status_code for answer in answers] == [409, 409, 202, 202, 409]
    assert answers[3].json()["retry_of"] == 1
    assert answers[3].headers["location"] == "/api/v1/runs/4"


async def test_plan_shows_what_would_run(server: Server, made: Place) -> None:
    """A plan is the specs, and stores nothing."""
    async with await server.client("run") as client:
        plan = await client.post("/api/v1/plan", json={"repository": str(made.allowed)})
        runs = (await client.get("/api/v1/runs")).json()["runs"]
    assert [job["name"] for job in plan.json()["specs"][0]["jobs"]] == ["build/app", "lint"]
    assert len(runs) == 2


async def test_check_lists_faults(server: Server) -> None:
    """A definition is checked without a repository: none of its faults, or all."""
    async with await server.client("read") as client:
        good = await client.post(
            "/api/v1/check", json={"definition": "name: n\njobs: {a: {image: busybox, stage: test, script: ls}}\n"}
        )
        bad = await client.post("/api/v1/check", json={"definition": "jobs: [", "file": "ci/x.yml"})
    assert good.json() == {"faults": []}
    assert bad.status_code == 200
    assert {fault["file"] for fault in bad.json()["faults"]} == {"ci/x.yml"}


async def test_answers_have_the_headers_of_all(server: Server) -> None:
    """Every answer can be found in the log by its id, is no other type than it says, and is kept by nobody."""
    async with await server.client("read") as client:
        good, bad = await client.get("/api/v1/runs/1"), await client.get("/api/v1/runs/99")
    for answer in (good, bad):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
    assert bad.json()["request_id"] == bad.headers["x-request-id"]
    assert good.headers["x-request-id"] != bad.headers["x-request-id"]
