"""Logs and events: whole, in part, followed, taken up again."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import stat
import zipfile
from collections.abc import AsyncGenerator

import pytest

from stretto.core.events import RunEnded, from_record
from stretto.doors.rest.stream import Stream, with_heartbeats
from tests.support.api import Server
from tests.unit.doors.rest.conftest import OUTPUT, Place

LOG = "/api/v1/runs/1/jobs/build%2Fapp/log"
SSE = {"Accept": "text/event-stream"}


def events(text: str) -> list[dict[str, str]]:
    """Return the server-sent events of a stream, comments left out."""
    found = []
    for block in text.split("\n\n"):
        lines = [line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")]
        if lines:
            found.append(dict(lines))
    return found


async def test_log_is_given_byte_for_byte(server: Server) -> None:
    """Whatever a job wrote comes back, as text to look at or a file to keep."""
    async with await server.client("read") as client:
        shown = await client.get(LOG)
        kept = await client.get(LOG, params={"download": True, "attempt": 1, "offset": 6})
    assert shown.content == OUTPUT
    assert shown.headers["content-length"] == str(len(OUTPUT))
    assert shown.headers["content-type"] == "text/plain; charset=utf-8"
    assert kept.content == OUTPUT[6:]
    assert kept.headers["content-disposition"].startswith("attachment; ")


@pytest.mark.parametrize(
    ("asked", "status", "told", "content"),
    [
        ("bytes=0-4", 206, f"bytes 0-4/{len(OUTPUT)}", OUTPUT[:5]),
        ("bytes=6-", 206, f"bytes 6-{len(OUTPUT) - 1}/{len(OUTPUT)}", OUTPUT[6:]),
        ("bytes=-3", 206, f"bytes {len(OUTPUT) - 3}-{len(OUTPUT) - 1}/{len(OUTPUT)}", OUTPUT[-3:]),
        ("bytes=2-99999", 206, f"bytes 2-{len(OUTPUT) - 1}/{len(OUTPUT)}", OUTPUT[2:]),
        ("bytes=99999-", 416, f"bytes */{len(OUTPUT)}", None),
        ("bytes=-0", 416, f"bytes */{len(OUTPUT)}", None),
        ("bytes=5-2", 200, None, OUTPUT),
        ("bytes=0-1,3-4", 200, None, OUTPUT),
        ("lines=1-2", 200, None, OUTPUT),
        ("bytes=-", 200, None, OUTPUT),
    ],
)
async def test_log_honours_a_range(
    server: Server, asked: str, status: int, told: str | None, content: bytes | None
) -> None:
    """A range is answered by RFC 9110: the part, a refusal with the size, or all where it means nothing."""
    async with await server.client("read") as client:
        answer = await client.get(LOG, headers={"Range": asked})
    assert (answer.status_code, answer.headers.get("content-range")) == (status, told)
    if content is not None:
        assert answer.content == content


async def test_log_events_carry_offsets_and_are_taken_up_again(server: Server) -> None:
    """The id of an event is the offset after it; who comes back with one gets the rest, and then the end."""
    async with await server.client("read") as client:
        whole = events((await client.get(LOG, headers=SSE)).text)
        rest = events((await client.get(LOG, headers=SSE | {"Last-Event-ID": "6"})).text)
        wrong = await client.get(LOG, headers=SSE | {"Last-Event-ID": "x"})
    data = b"".join(base64.b64decode(json.loads(event["data"])["b64"]) for event in whole[:-1])
    assert data == OUTPUT
    assert whole[-2]["id"] == str(len(OUTPUT))
    assert whole[-1]["event"] == "end"
    assert base64.b64decode(json.loads(rest[0]["data"])["b64"]) == OUTPUT[6:]
    assert wrong.status_code == 422


async def test_log_lines_have_times(server: Server) -> None:
    """With `lines`, each line is a JSON object with its time."""
    async with await server.client("read") as client:
        answer = await client.get(LOG, params={"lines": True})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [base64.b64decode(line["b64"]) for line in lines] == OUTPUT.split(b"\n")
    assert all(line["at"] for line in lines)


async def test_log_of_what_never_ran_is_not_there(server: Server, made: Place) -> None:
    """No job, no attempt, not started: 404, also for who would follow."""
    async with await server.client("run") as client:
        paths = ["no/log", "no/log?follow=1", "lint/log?attempt=2", "lint/log?attempt=2&follow=1"]
        answers = [await client.get(f"/api/v1/runs/1/jobs/{path}") for path in paths]
    assert [answer.status_code for answer in answers] == [404] * 4


async def test_events_of_a_log_that_has_not_begun_are_waited_for(server: Server, made: Place) -> None:
    """Who asks for events of a job that waits for its turn gets a stream that stays open, not a 404."""
    async with await server.client("run") as client:
        await client.post("/api/v1/runs", json={"repository": str(made.allowed), "validate": True})
        server.door.closing.set()
        answer = await client.get("/api/v1/runs/3/jobs/lint/log", headers=SSE)
    assert (answer.status_code, answer.text) == (200, "")


async def test_follower_of_a_log_gets_what_comes_and_then_the_end(server: Server, made: Place) -> None:
    """Who follows a job that has not begun waits for it, and gets all of it."""
    async with await server.client("run") as client:
        body = {"repository": str(made.allowed), "validate": True}
        await client.post("/api/v1/runs", json=body)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(client.get("/api/v1/runs/3/jobs/build%2Fapp/log?follow=1"))
            group.create_task(server.worker.run())
            answer = await following
            await client.get("/api/v1/runs/3/events", headers=SSE)  # what is cut off leaves a process behind
            await server.worker.drain()
    assert answer.content == OUTPUT


async def test_events_can_be_read_back_and_taken_up_again(server: Server) -> None:
    """Events are whole: a client can replay them; `after` and Last-Event-ID leave out what it has."""
    async with await server.client("read") as client:
        whole = (await client.get("/api/v1/runs/1/events")).json()["events"]
        rest = events(
            (await client.get("/api/v1/runs/1/events", headers=SSE | {"Last-Event-ID": str(len(whole) - 1)})).text
        )
        later = (await client.get(f"/api/v1/runs/1/events?after={len(whole)}")).json()["events"]
    stored = await server.service.read_events("1")
    assert [(one["seq"], from_record(one["event"])) for one in whole] == stored
    assert isinstance(from_record(json.loads(rest[0]["data"])["event"]), RunEnded)
    assert (rest[0]["id"], rest[1]["event"]) == (str(len(whole)), "end")
    assert later == []


async def test_silence_is_broken_by_comments_and_the_end_of_the_server() -> None:
    """A silent source gives comments; when the server is to end the stream stops, and the source with it."""
    closing, closed = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            closed.set()

    seen = []
    async for chunk in with_heartbeats(source(), closing, every_s=0.001):
        seen.append(chunk)
        if len(seen) == 3:
            closing.set()
    assert seen == [b"one", b": still here\n\n", b": still here\n\n"]
    assert closed.is_set()


async def test_stream_ends_with_its_reader() -> None:
    """A reader that goes away ends the source, though it never yields again."""
    closed, sent = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def receive() -> dict[str, str]:
        await sent.wait()
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        if isinstance(message, dict) and message.get("body") == b"one":
            sent.set()

    await Stream(source(), media_type="text/plain")({"type": "http"}, receive, send)
    assert closed.is_set()


async def test_stream_reads_no_further_than_its_reader() -> None:
    """What a slow reader has not taken is not read from the source either."""
    read = 0

    async def source() -> AsyncGenerator[bytes, None]:
        nonlocal read
        while True:
            read += 1
            yield b"chunk"

    stuck = asyncio.Event()

    async def receive() -> dict[str, str]:
        await stuck.wait()
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        if isinstance(message, dict) and message.get("body"):
            stuck.set()
            await asyncio.Event().wait()

    await Stream(source(), media_type="text/plain")({"type": "http"}, receive, send)
    assert read == 1


async def test_artifacts_are_listed_and_given(server: Server) -> None:
    """Each file of a job can be had by its path, as a download that no browser runs; a link has no bytes."""
    base = "/api/v1/runs/1/artifacts"
    async with await server.client("read") as client:
        listed = (await client.get(base)).json()["artifacts"]
        mine = (await client.get(base, params={"job": "lint"})).json()["artifacts"]
        file = await client.get(f"{base}/build%2Fapp/out/plain.txt")
        missing = [
            await client.get(f"{base}/{path}") for path in ("build%2Fapp/out/link", "build%2Fapp/out/no", "no/x")
        ]
    assert [it["path"] for it in listed] == ["out/link", "out/plain.txt", "out/tool"]
    assert mine == []
    assert file.content == b"data\n"
    assert file.headers["content-disposition"] == "attachment; filename*=UTF-8''plain.txt"
    assert file.headers["content-security-policy"].startswith("sandbox")
    assert [answer.status_code for answer in missing] == [404] * 3


async def test_zip_has_files_programs_and_links(server: Server) -> None:
    """The archive is whole: content, modes and links, below the job's name or without it."""
    async with await server.client("read") as client:
        whole = zipfile.ZipFile(io.BytesIO((await client.get("/api/v1/runs/1/artifacts.zip")).content))
        one = zipfile.ZipFile(io.BytesIO((await client.get("/api/v1/runs/1/artifacts.zip?job=build/app")).content))
    assert whole.testzip() is None
    assert whole.namelist() == ["build/app/out/link", "build/app/out/plain.txt", "build/app/out/tool"]
    assert one.read("out/plain.txt") == b"data\n"
    assert one.getinfo("out/tool").external_attr >> 16 & 0o111
    assert stat.S_ISLNK(one.getinfo("out/link").external_attr >> 16)
    assert one.read("out/link") == b"plain.txt"
