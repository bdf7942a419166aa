"""From a server's refusal to the error that the embedded product would have raised, so that nobody sees where the work is done.

A body is a problem (RFC 9457) or is not believed: what a proxy or another program answers is never shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from stretto.core.errors import (
    AccessError,
    DefinitionError,
    Fault,
    InputError,
    NotFoundError,
    RunBusyError,
    ServerError,
    SourceError,
    StrettoError,
)

MEDIA_TYPE: Final = "application/problem+json"
MAX_MESSAGE_CHARACTERS: Final = 4000

_BY_TYPE: Final[dict[str, type[StrettoError]]] = {
    "source": SourceError,
    "access": AccessError,
    "not-found": NotFoundError,
    "run-busy": RunBusyError,
}
"""By the last word of a problem's `type`, where it says more than the status."""

_BY_STATUS: Final[dict[int, type[StrettoError]]] = {
    HTTPStatus.UNAUTHORIZED: AccessError,
    HTTPStatus.FORBIDDEN: AccessError,
    HTTPStatus.NOT_FOUND: NotFoundError,
}

LOGIN_HINT: Final = "log in with `stretto login URL`, or set STRETTO_TOKEN"


def to_error(status: int, media_type: str, body: bytes, *, server: str) -> StrettoError:
    """Return the error that an answer with `status` (from 300 on) stands for; `server` is what the server is called."""
    problem = _read(body) if media_type == MEDIA_TYPE else None
    if problem is None:
        return _foreign(status, server)
    faults = problem.get("faults")
    if isinstance(faults, list) and faults and all(isinstance(fault, Mapping) for fault in faults):
        return _definition(faults)
    message = _text(problem.get("detail")) or _text(problem.get("title")) or _phrase(status)
    hint = LOGIN_HINT if status == HTTPStatus.UNAUTHORIZED else _text(problem.get("hint"))
    kind = _BY_TYPE.get(str(problem.get("type", "")).rpartition(":")[2]) or _BY_STATUS.get(status)
    if kind is None:
        kind = InputError if status < HTTPStatus.INTERNAL_SERVER_ERROR else ServerError
    if kind is ServerError:
        message = f"{server}: {message}"
    return kind(message, hint=hint)


def _read(body: bytes) -> Mapping[str, Any] | None:
    try:
        data = json.loads(body)
    except ValueError:
        return None
    return data if isinstance(data, Mapping) else None


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return value if len(value) <= MAX_MESSAGE_CHARACTERS else f"{value[:MAX_MESSAGE_CHARACTERS]} …"


def _definition(faults: list[Mapping[str, Any]]) -> StrettoError:
    try:
        read = [
            Fault(int(it["line"]), int(it["column"]), str(it["rule"]), str(it["message"]), _text(it.get("hint")))
            for it in faults
        ]
        return DefinitionError(str(faults[0]["file"]), read)
    except (KeyError, TypeError, ValueError):
        return ServerError("the server found faults, but tells of them in a way that this Stretto does not read")


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _foreign(status: int, server: str) -> StrettoError:
    """Return the error for an answer that a proxy gave, or some other program."""
    if status == HTTPStatus.UNAUTHORIZED:
        return AccessError(f"{server} wants a token", hint=LOGIN_HINT)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return InputError(f"{server} takes no request of this size")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return ServerError(f"{server} answered {_phrase(status)}", hint="try again later")
    return ServerError(
        f"{server} answered {_phrase(status)}, and not as a Stretto server does", hint="check the server's URL"
    )
