"""What is in a message: the id of a run that the database has, or a whole submission of another program. docs/queue.md has both.

Nothing of a message is trusted: what can't be used is an `UnusableError` with one machine word and one sentence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stretto.waist import RunRequest, request_from_json

SCHEMA: Final = "stretto.submission/1"
MAX_BYTES: Final = 12 * 1024 * 1024
"""As much as the API takes by default: a definition has at most 10 MiB."""
LONGEST_KEY: Final = 200
LONGEST_TEXT: Final = 4096
MOST_ITEMS: Final = 1000

MALFORMED: Final = "malformed"
UNKNOWN_SCHEMA: Final = "unknown_schema"
BAD_REQUEST: Final = "bad_request"
UNKNOWN_RUN: Final = "unknown_run"
CRASHED: Final = "crashed"

REASON_HEADER: Final = "x-stretto-reason"
MESSAGE_HEADER: Final = "x-stretto-message"
AT_HEADER: Final = "x-stretto-at"

_RUN_ID: Final = re.compile(r"[0-9a-zA-Z_-]{1,64}")
_TEXTS: Final = ("repository", "branch", "commit", "file", "driver", "upload")
_LISTS: Final = ("pipelines", "overrides")
_KEYS: Final = frozenset({*_TEXTS, *_LISTS, "definition", "variables", "priority"})
_LARGEST_PRIORITY: Final = 1_000_000


class UnusableError(Exception):
    """The message can't be used; `reason` is one of the words above."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class RunMessage:
    """Define and conduct the run with this id."""

    run_id: str


@dataclass(frozen=True, slots=True)
class RequestMessage:
    """Accept what is asked for."""

    request: RunRequest


def encode_run(run_id: str) -> bytes:
    """Return the body of the message that tells of a run."""
    return json.dumps({"schema": SCHEMA, "run": run_id}, separators=(",", ":")).encode()


def decode(body: bytes, *, message_id: str | None = None, user: str | None = None) -> RunMessage | RequestMessage:
    """Return what the message says; UnusableError. `user` is the broker's user who published, where the broker vouches for it."""
    data = _read(body)
    schema = data.get("schema")
    if schema != SCHEMA:
        raise UnusableError(UNKNOWN_SCHEMA, f"schema is {_shown(schema)}; this Stretto reads {SCHEMA}")
    if "run" in data:
        _refuse_unknown(data, {"schema", "run"}, MALFORMED)
        run_id = data["run"]
        if not isinstance(run_id, str) or _RUN_ID.fullmatch(run_id) is None:
            raise UnusableError(MALFORMED, f"run is {_shown(run_id)}, not the id of a run")
        return RunMessage(run_id)
    _refuse_unknown(data, {"schema", "request", "idempotency_key"}, MALFORMED)
    key = data.get("idempotency_key", message_id)
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY:
        message = (
            f"an idempotency_key (or a message id) of 1 to {LONGEST_KEY} characters is needed: messages may come twice"
        )
        raise UnusableError(BAD_REQUEST, message)
    request = data.get("request")
    if not isinstance(request, dict):
        raise UnusableError(MALFORMED, "neither run nor request is there")
    _check_request(request)
    return RequestMessage(
        request_from_json(request, by=f"queue:{user}" if user else "queue", idempotency_key=f"queue:{key}")
    )


def _read(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BYTES:
        raise UnusableError(MALFORMED, f"{len(body)} bytes are more than {MAX_BYTES}")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnusableError(MALFORMED, f"not JSON in UTF-8: {str(error)[:200]}") from error
    if not isinstance(data, dict):
        raise UnusableError(MALFORMED, "not a JSON object")
    return data


def _check_request(request: Mapping[str, Any]) -> None:
    """Refuse what `request_from_json` would take as it is."""
    _refuse_unknown(request, _KEYS, BAD_REQUEST)
    for name in _TEXTS:
        if name in request and not _is_text(request[name]):
            raise UnusableError(BAD_REQUEST, f"{name} is {_shown(request[name])}, not a text")
    if "definition" in request and not isinstance(request["definition"], str):
        raise UnusableError(BAD_REQUEST, "definition is not a text")
    for name in _LISTS:
        value = request.get(name, [])
        if not isinstance(value, list) or len(value) > MOST_ITEMS or not all(map(_is_text, value)):
            raise UnusableError(BAD_REQUEST, f"{name} is {_shown(value)}, not a list of texts")
    variables = request.get("variables", {})
    if (
        not isinstance(variables, dict)
        or len(variables) > MOST_ITEMS
        or not all(isinstance(value, str) for value in variables.values())
    ):
        raise UnusableError(BAD_REQUEST, "variables is not an object of texts")
    priority = request.get("priority", 0)
    if type(priority) is not int or abs(priority) > _LARGEST_PRIORITY:
        raise UnusableError(
            BAD_REQUEST, f"priority is {_shown(priority)}, not a whole number up to {_LARGEST_PRIORITY}"
        )
    if "repository" not in request and "upload" not in request:
        raise UnusableError(BAD_REQUEST, "name a repository or an upload")


def _refuse_unknown(data: Mapping[str, Any], known: set[str] | frozenset[str], reason: str) -> None:
    if unknown := sorted(set(data) - known):
        raise UnusableError(reason, f"unknown key {_shown(unknown[0])}; known: {', '.join(sorted(known))}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT and "\0" not in value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
