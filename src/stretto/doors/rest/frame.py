"""What goes around every request: its id, its line in the access log, its measure, the bound of its body, and the last catch.

A plain ASGI application, so that streams pass through as they are.
"""

from __future__ import annotations

import logging
import random
import re
import time
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stretto.doors.rest.metrics import Metrics
from stretto.doors.rest.problem import ProblemError, respond
from stretto.doors.rest.segment import PREFIX

log = logging.getLogger(__name__)
access_log = logging.getLogger("stretto.access_log")

UNBOUNDED: Final = (f"{PREFIX}/uploads",)
"""Where the route itself bounds what it reads, as it reads it."""
_KEPT: Final = re.compile(rb"%(?:2[Ff]|25)")


class Frame:
    """Wraps the application. `max_body` is in bytes."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, max_body: int) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._metrics)
        _keep_slashes(scope)
        if scope["path"].removeprefix(scope.get("root_path", "")) not in UNBOUNDED:
            receive = _Bounded(scope, receive, self._max_body)
        try:
            await self._app(scope, receive, exchange.send)
        except Exception as error:  # the boundary: nothing but a problem leaves it
            await self._answer(error, exchange, scope, receive)
        finally:
            exchange.close()

    async def _answer(self, error: Exception, exchange: _Exchange, scope: Scope, receive: Receive) -> None:
        fields = {"request_id": exchange.request_id, "path": scope["path"]}
        if exchange.status is not None:
            log.error("an answer broke off", exc_info=error, extra=fields)
            raise error  # the server closes the connection, so that nobody takes it for whole
        if not isinstance(error, ProblemError):
            log.error("a request met a bug", exc_info=error, extra=fields)
            error = ProblemError(500, "the server met a bug; its log has more under this request's id")
        answer = respond(error, path=scope["path"], request_id=exchange.request_id)
        await answer(scope, receive, exchange.send)


class _Exchange:
    """One request and its answer, as seen from outside."""

    def __init__(self, scope: Scope, send: Send, metrics: Metrics) -> None:
        self.request_id = f"{random.getrandbits(64):016x}"  # to find a line of the log by; no secret
        self.status: int | None = None
        self._scope = scope
        self._send = send
        self._metrics = metrics
        self._began_s = time.perf_counter()
        self._first_s = 0.0
        self._sent = 0
        scope["request_id"] = self.request_id
        metrics.open.inc()

    async def send(self, message: Message) -> None:
        """Send on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._first_s = time.perf_counter() - self._began_s
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            headers["X-Content-Type-Options"] = "nosniff"
            headers.setdefault("Cache-Control", "no-store")
            if self.status == 413:
                headers["Connection"] = "close"  # what is still coming is not read
        elif message["type"] == "http.response.body":
            self._sent += len(message.get("body", b""))
        await self._send(message)

    def close(self) -> None:
        """Write the line of the access log, without query: people put into one what they should not."""
        route = getattr(self._scope.get("route"), "path", "other")
        status = self.status or 499  # nobody was there any more to be answered
        self._metrics.open.dec()
        self._metrics.requests.labels(self._scope["method"], route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(self._first_s)
        client = self._scope.get("client")
        access_log.info(
            "request",
            extra={
                "method": self._scope["method"],
                "path": self._scope["path"],
                "status": status,
                "bytes": self._sent,
                "took_ms": round((time.perf_counter() - self._began_s) * 1000, 1),
                "request_id": self.request_id,
                "address": client[0] if client else "",
                "who": self._scope.get("principal", ""),
            },
        )


class _Bounded:
    """Counts the bytes of a body as they come, whatever its headers say."""

    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._seen = 0
        length = Headers(scope=scope).get("content-length", "")
        self._announced = int(length) if length.isdecimal() and len(length) < 20 else 0

    async def __call__(self) -> Message:
        """Return the next message; ProblemError 413 instead of what is too much, before any of it if it was announced."""
        if self._announced > self._limit:
            raise self._too_large()
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._limit:
                raise self._too_large()
        return message

    def _too_large(self) -> ProblemError:
        return ProblemError(413, f"the body has more than {self._limit} bytes")


def _keep_slashes(scope: Scope) -> None:
    """Keep `%2F` (and `%25`) in the path as they are: names of jobs have slashes, which are not those between segments."""
    raw: bytes = scope.get("raw_path") or b""
    if _KEPT.search(raw):
        plain = b"".join(
            part if _KEPT.fullmatch(part) else unquote_to_bytes(part) for part in re.split(rb"(%(?:2[Ff]|25))", raw)
        )
        scope["path"] = plain.decode("utf-8", "replace")
