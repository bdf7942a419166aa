"""Every error of the API as a problem of RFC 9457: one shape, one media type, never a page and never a trace.

`type` ends with a machine word, so that a client knows what went wrong without reading English.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from stretto.core.errors import (
    DefinitionError,
    DriverError,
    InputError,
    NotFoundError,
    RunBusyError,
    SourceError,
    StoreError,
    StrettoError,
    TooLargeError,
)
from stretto.reports.fault import faults_to_json

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
TYPE: Final = "urn:stretto:problem:"
RETRY_S: Final = 2
"""When to try again what fails because something else is away."""
MAX_SHOWN: Final = 20
"""Errors of one request that are told."""

WORDS: Final[dict[int, str]] = {
    400: "malformed",
    401: "access",
    403: "access",
    404: "not-found",
    405: "method",
    409: "conflict",
    413: "too-large",
    416: "range",
    422: "input",
    429: "rate",
    500: "bug",
    503: "store",
}
"""The machine word of a status, where no error of ours has one of its own."""


class ProblemError(HTTPException):
    """What a door refuses or fails at. `more` holds further members of the problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        word: str | None = None,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(status, detail, dict(headers) if headers else None)
        self.word = word or WORDS.get(status, "error")
        self.hint = hint
        self.more = more


def problem_of(error: StrettoError) -> ProblemError:
    """Return what a caller is told of an error of ours; what is not the caller's doing is told in general words only."""
    if isinstance(error, DefinitionError):
        return ProblemError(
            422, f"the definition {error.file} has faults", word="definition", faults=faults_to_json(error)
        )
    if isinstance(error, TooLargeError):
        return ProblemError(413, error.message, hint=error.hint)
    if isinstance(error, NotFoundError):
        return ProblemError(404, error.message, hint=error.hint)
    if isinstance(error, SourceError):
        return ProblemError(422, error.message, word="source", hint=error.hint)
    if isinstance(error, InputError):
        return ProblemError(422, error.message, hint=error.hint)
    if isinstance(error, RunBusyError):
        return ProblemError(409, error.message, word="run-busy", hint=error.hint)
    headers = {"Retry-After": str(RETRY_S)}
    if isinstance(error, StoreError):
        log.error("the store failed a request", extra={"error": error.message})
        return ProblemError(503, "the server can't reach or use its store just now", headers=headers)
    if isinstance(error, DriverError):
        log.warning("a driver failed a request", extra={"error": error.message})
        return ProblemError(503, "the server can't reach what runs jobs", word="engine-unavailable", headers=headers)
    log.error("a request met a bug", exc_info=error)
    return ProblemError(500, "the server met a bug; its log has more under this request's id")


def respond(error: ProblemError, *, path: str, request_id: str) -> Response:
    """Return the answer that tells of the problem."""
    body: dict[str, Any] = {
        "type": TYPE + error.word,
        "title": HTTPStatus(error.status_code).phrase,
        "status": error.status_code,
        "detail": error.detail,
        "instance": path,
        "request_id": request_id,
    }
    if error.hint is not None:
        body["hint"] = error.hint
    return Response(
        json.dumps(body | error.more, ensure_ascii=True), error.status_code, error.headers, media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Let every error of the application become a problem."""

    async def tell_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if not isinstance(error, ProblemError):
            headers = (
                {"Allow": ", ".join(_allowed(app, request.url.path))} if error.status_code == 405 else error.headers
            )
            error = ProblemError(error.status_code, _detail(error, request), headers=headers)
        return _respond(request, error)

    async def tell_ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, StrettoError)
        return _respond(request, problem_of(error))

    async def tell_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _respond(request, _invalid(error))

    app.add_exception_handler(HTTPException, tell_http)
    app.add_exception_handler(StrettoError, tell_ours)
    app.add_exception_handler(RequestValidationError, tell_invalid)


def _allowed(app: FastAPI, path: str) -> list[str]:
    """Return the methods that this address takes; the router itself tells those of one route only."""
    paths = app.openapi()["paths"]
    return sorted({verb.upper() for known in paths if compile_path(known)[0].match(path) for verb in paths[known]})


def _respond(request: Request, error: ProblemError) -> Response:
    return respond(error, path=request.url.path, request_id=request.scope.get("request_id", ""))


def _detail(error: HTTPException, request: Request) -> str:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return "there is nothing at this address"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return f"{request.method} is not allowed here"
    return error.detail


def _invalid(error: RequestValidationError) -> ProblemError:
    errors = [
        {"where": ".".join(map(str, one["loc"])), "message": str(one["msg"])} for one in error.errors()[:MAX_SHOWN]
    ]
    if any(one["type"] == "json_invalid" for one in error.errors()):
        return ProblemError(400, "the body is no JSON", errors=errors)
    told = "; ".join(f"{one['where']}: {one['message']}" for one in errors[:3])
    return ProblemError(422, f"the request is not as the API has it: {told}", errors=errors)
