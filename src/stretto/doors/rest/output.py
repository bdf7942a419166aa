"""Routes for what a run says while it runs: logs of attempts and events."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response

from stretto.core.errors import NotFoundError, StrettoError
from stretto.core.events import Event, to_record
from stretto.core.states import FINAL
from stretto.doors.rest import model
from stretto.doors.rest.deps import Backend, Caller, Reader, answers
from stretto.doors.rest.openapi import ref
from stretto.doors.rest.problem import ProblemError, problem_of
from stretto.doors.rest.segment import PREFIX, Name, RunRef
from stretto.doors.rest.stream import SSE, Stream, record, with_heartbeats
from stretto.waist import LogRequest

router = APIRouter(prefix=PREFIX, tags=["output"])

PLAIN: Final = "text/plain; charset=utf-8"
LINES: Final = "application/x-ndjson"
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_BATCH_LINES: Final = 500
_TEXT: Final[dict[str, Any]] = {"schema": {"type": "string"}}
_LOG: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The output: as it was; as server-sent events if asked for with Accept (data: {b64}, id: the offset "
        "after it); with lines=1, a JSON object with at and b64 for each line.",
        "content": {"text/plain": _TEXT, SSE: _TEXT, LINES: _TEXT},
    },
    206: {"description": "The range of the output.", "content": {"text/plain": _TEXT}},
}
_EVENTS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The events up to now; as server-sent events, until the run is over (id: their number).",
        "content": {"application/json": {"schema": ref(model.Events)}, SSE: _TEXT},
    }
}
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,18}$")]
Offset = Annotated[int, Query(ge=0, le=2**62)]


@router.get("/runs/{run}/jobs/{job}/log", response_class=Response, responses=_LOG | answers(404, 416))
async def read_log(
    request: Request,
    caller: Reader,
    run: RunRef,
    job: Name,
    attempt: Annotated[int | None, Query(ge=1, le=1_000_000, description="Default: the latest.")] = None,
    offset: Offset = 0,
    follow: Annotated[bool, Query(description="Go on until the attempt is over.")] = False,
    download: Annotated[bool, Query(description="As a file to keep.")] = False,
    lines: Annotated[bool, Query(description="A JSON object for each line, with its time.")] = False,
    last_event_id: LastEventId = None,
) -> Response:
    """Give the output of an attempt."""
    row, waist = await caller.run(run), caller.door.waist
    as_events = _wants_events(request)
    wanted = LogRequest(row.id, job, attempt, follow or as_events, offset)
    size = await _size(waist, wanted)
    if as_events:
        wanted = replace(wanted, offset=offset if last_event_id is None else int(last_event_id))
        return _events(_log_events(waist, wanted), caller)
    if lines:
        return Stream(_lines(waist, wanted), media_type=LINES)
    headers = {"Accept-Ranges": "bytes"}
    if download:
        name = quote(f"{row.number}-{job}.log".replace("/", "-"), safe="")
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{name}"
    if follow:
        return Stream(_bytes(waist, wanted), media_type=PLAIN, headers=headers)
    return _part(waist, wanted, size, request.headers.get("range"), headers)


@router.get("/runs/{run}/events", response_class=Response, responses=_EVENTS | answers(404))
async def read_events(
    request: Request,
    caller: Reader,
    run: RunRef,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    last_event_id: LastEventId = None,
) -> Response:
    """Give what happened to a run."""
    row = await caller.run(run)
    if _wants_events(request):
        start = after if last_event_id is None else int(last_event_id)
        return _events(_run_events(caller, row.id, start), caller)
    events = await caller.door.waist.read_events(row.id, after)
    return JSONResponse({"events": [_numbered(number, event) for number, event in events]})


async def _size(waist: Backend, wanted: LogRequest) -> int:
    """Return how much output there is; NotFoundError, but not for a follower of what is still to start."""
    try:
        return await waist.log_size(replace(wanted, follow=False))  # which would wait for the attempt
    except NotFoundError:
        if not wanted.follow or wanted.attempt is not None:
            raise
        for _, job in (await waist.report(wanted.run)).jobs():
            if job.name == wanted.job and not job.attempts and job.status not in FINAL:
                return 0
        raise


def _part(waist: Backend, wanted: LogRequest, size: int, header: str | None, headers: dict[str, str]) -> Stream:
    """Return all output up to now, or the range of it that the header asks for; ProblemError 416."""
    first, last = wanted.offset, size - 1
    asked = None if header is None or wanted.offset else _range(header, size)
    if asked is not None:
        first, last = asked
        if first > last:
            raise ProblemError(416, f"the output has {size} bytes", headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    length = max(0, last + 1 - first)
    return Stream(
        _bytes(waist, replace(wanted, offset=first), length),
        media_type=PLAIN,
        status=200 if asked is None else 206,
        length=length,
        headers=headers,
    )


def _range(header: str, size: int) -> tuple[int, int] | None:
    """Return first and last byte of a range that can be had, an empty one if it can't; None for what is to be passed over."""
    found = _RANGE.fullmatch(header.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        count = int(found[2])
        return (max(0, size - count), size - 1) if count else (size, size - 1)
    first, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return None
    return first, min(last, size - 1)


async def _bytes(waist: Backend, wanted: LogRequest, length: int | None = None) -> AsyncGenerator[bytes, None]:
    left = length
    if left == 0:
        return
    async for data in waist.logs(wanted):
        if left is None:
            yield data
            continue
        yield data[:left]
        left -= len(data)
        if left <= 0:
            return


async def _lines(waist: Backend, wanted: LogRequest) -> AsyncGenerator[bytes, None]:
    batch: list[str] = []
    for at, line in await waist.log_lines(wanted):
        batch.append(json.dumps({"at": at.isoformat(), "b64": base64.b64encode(line).decode()}) + "\n")
        if len(batch) == _BATCH_LINES:
            yield "".join(batch).encode()
            batch.clear()
    yield "".join(batch).encode()


async def _log_events(waist: Backend, wanted: LogRequest) -> AsyncGenerator[bytes, None]:
    offset = wanted.offset
    async for data in waist.logs(wanted):
        offset += len(data)
        yield record({"b64": base64.b64encode(data).decode()}, event_id=offset)


async def _run_events(caller: Caller, run_id: str, after: int) -> AsyncGenerator[bytes, None]:
    async for number, event in caller.door.waist.watch(run_id, after):
        yield record(_numbered(number, event), event_id=number)


async def _told(source: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the events and how they end: `end` says that nothing follows, `error` that something failed."""
    try:
        async for event in source:
            yield event
        yield record({}, event="end")
    except StrettoError as error:
        problem = problem_of(error)
        yield record({"status": problem.status_code, "detail": problem.detail}, event="error")


def _events(source: AsyncGenerator[bytes, None], caller: Caller) -> Stream:
    headers = {"X-Accel-Buffering": "no"}  # a proxy must pass on each event as it comes
    return Stream(with_heartbeats(_told(source), caller.door.closing), media_type=SSE, headers=headers)


def _numbered(number: int, event: Event) -> dict[str, Any]:
    return {"seq": number, "event": to_record(event)}


def _wants_events(request: Request) -> bool:
    return any(part.partition(";")[0].strip().lower() == SSE for part in request.headers.get("accept", "").split(","))
