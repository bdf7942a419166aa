"""Routes for who watches the server: is it alive, is it ready, what does it measure, which version is it."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from stretto import __version__
from stretto.core.errors import StoreError
from stretto.doors.rest import model
from stretto.doors.rest.deps import Reader, answers, door_of, errors, unbound
from stretto.doors.rest.openapi import gives
from stretto.doors.rest.problem import RETRY_S, ProblemError
from stretto.doors.rest.segment import PREFIX

router = APIRouter(tags=["status"])
versioned = APIRouter(prefix=PREFIX, tags=["status"])

PATIENCE_S: Final = 3.0
"""How long readiness waits for the store."""


@router.get("/health", responses=gives(model.Health, "It answers.") | errors(500))
async def health() -> JSONResponse:
    """Say that the process is alive. Looks at nothing else."""
    return JSONResponse({"status": "ok"})


@router.get("/ready", responses=gives(model.Health, "It can do its work.") | errors(500, 503))
async def ready(request: Request) -> JSONResponse:
    """Say whether the store can be reached and, where this process conducts, its conductor is alive.

    A message queue that is away makes it `degraded`: what is accepted waits in the store.
    """
    door = door_of(request)
    missing = [] if door.is_conducting is None or door.is_conducting() else ["its conductor is not alive"]
    try:
        await asyncio.wait_for(door.tables.read("SELECT 1"), PATIENCE_S)
    except (StoreError, TimeoutError):
        missing.append("the store can't be reached")
    if missing:
        headers = {"Retry-After": str(RETRY_S)}
        raise ProblemError(503, "not ready: " + ", and ".join(missing), word="not-ready", headers=headers)
    if door.queue_trouble is not None and (trouble := door.queue_trouble()) is not None:
        return JSONResponse({"status": "degraded", "told": f"runs are accepted and start later: {trouble}"})
    return JSONResponse({"status": "ok"})


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Measures.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **answers(),
    },
)
async def metrics(caller: Reader) -> Response:
    """Give the measures of this process, for Prometheus."""
    unbound(caller)
    return Response(await caller.door.metrics.text(caller.door.tables), media_type=CONTENT_TYPE_LATEST)


@versioned.get("/version", responses=gives(model.Version, "The versions.") | errors(500))
async def version() -> JSONResponse:
    """Say which Stretto this is, and which version of the API it speaks."""
    return JSONResponse({"version": __version__, "api": "v1"})
