"""The log of a server: a line for people, or a record of the Elastic Common Schema for each message. No header ever gets in."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, Final, TextIO

import ecs_logging

from stretto.doors.rest.frame import access_log

_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_ECS: Final = {
    "method": "http.request.method",
    "path": "url.path",
    "status": "http.response.status_code",
    "bytes": "http.response.body.bytes",
    "request_id": "http.request.id",
    "address": "client.address",
    "who": "user.name",
}
"""What the fields of our messages are called there; the others are below `stretto`."""


class PlainFormatter(logging.Formatter):
    """`12:30:05 info     message key=value`, in UTC."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and below it the trace of an error."""
        fields = [f"{name}={value!r}" if _needs_quotes(value) else f"{name}={value}" for name, value in _fields(record)]
        line = " ".join(
            [f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():<8}", _text(record), *fields]
        )
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class EcsFormatter(ecs_logging.StdlibFormatter):
    """One JSON object to a line."""

    def format_to_ecs(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the record with our fields under their names in ECS."""
        fields = dict(_fields(record))
        copy = logging.makeLogRecord({name: value for name, value in vars(record).items() if name not in fields})
        copy.__dict__.pop("color_message", None)
        for name, value in fields.items():
            copy.__dict__[_ECS.get(name, f"stretto.{name}")] = value
        made: dict[str, Any] = super().format_to_ecs(copy)
        return made


def install(log_format: str, *, verbose: bool = False, quiet: bool = False, stream: TextIO | None = None) -> None:
    """Send what this process logs to `stream` (stderr), as `plain` lines or `json`."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(EcsFormatter() if log_format == "json" else PlainFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    ours = logging.getLogger("stretto")
    ours.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    ours.propagate = True
    access_log.setLevel(logging.WARNING if quiet else logging.INFO)


def _fields(record: logging.LogRecord) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(record).items() if name not in _PLAIN and value not in (None, "")]


def _needs_quotes(value: object) -> bool:
    text = str(value)
    return not text or not text.isprintable() or " " in text


def _text(record: logging.LogRecord) -> str:
    """Return the message with nothing in it that could be taken for another line."""
    return (
        record.getMessage().encode("unicode_escape").decode("ascii")
        if "\n" in record.getMessage()
        else record.getMessage()
    )
