"""HTTP to one server: time-outs, retries, errors. The only module that knows the HTTP library.

The token goes into one header, to this server and nowhere else: no redirect is followed. A call is made again only where that
does no harm: it never left, or it may be repeated.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import random
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

import httpx2

from stretto import __version__
from stretto.client.problem import MEDIA_TYPE as PROBLEM
from stretto.client.problem import to_error
from stretto.client.target import Target
from stretto.core.errors import ServerError, StrettoError

log = logging.getLogger(__name__)

CONNECT_S: Final = 5.0
READ_S: Final = 60.0
"""Silence of a server that was asked something, or that is to say every few seconds that it is there."""
COMPILE_READ_S: Final = 1800.0
"""For an answer before which the server may have to fetch a repository."""
CALL_PATIENCE_S: Final = 20.0
"""How long a call is made again and again: enough for a server that restarts."""
FOLLOW_PATIENCE_S: Final = 180.0
"""The same for what is followed for hours: a server whose database is away for a minute comes back."""
LIVED_S: Final = 5.0
"""A stream that was open for longer was alive, though nothing happened; one that is cut at once again and again is not."""
FIRST_WAIT_S: Final = 0.2
MAX_WAIT_S: Final = 5.0
MAX_RETRY_AFTER_S: Final = 60.0
MAX_ERROR_BYTES: Final = 1 << 20
MAX_JSON_BYTES: Final = 1 << 28
MAX_EVENT_BYTES: Final = 1 << 24

RETRIED: Final = frozenset({429, 502, 503, 504})
"""Answers that a later one may differ from."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server that is away is waited for."""

    call_s: float = CALL_PATIENCE_S
    follow_s: float = FOLLOW_PATIENCE_S


class CutError(ServerError):
    """The connection broke, or the server was away; the same call may succeed. `after_s` is when the server wants it again."""

    def __init__(
        self, message: str, *, hint: str | None = None, sent: bool = True, after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.sent = sent
        self.after_s = after_s


class Connection:
    """Calls to one server, by paths below its URL. Any number at once; to be used as a context manager."""

    def __init__(self, target: Target, *, patience: Patience | None = None) -> None:
        self.target = target
        self.patience = patience or Patience()
        headers = {"User-Agent": f"stretto/{__version__}"}
        if target.token is not None:
            headers["Authorization"] = f"Bearer {target.token}"
        self._http = httpx2.AsyncClient(
            base_url=target.url,
            headers=headers,
            timeout=httpx2.Timeout(READ_S, connect=CONNECT_S),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
            follow_redirects=False,
            trust_env=not target.is_here,
            verify=_tls(target),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    # ------------------------------------------------------------------------------------------------------- calling

    async def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON that is at `path`."""
        return await self.call("GET", path, params=params, again=True)

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        content: Callable[[], AsyncIterable[bytes]] | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool = False,
        read_s: float = READ_S,
        patience_s: float | None = None,
    ) -> Any:
        """Return the JSON of the answer, None of an empty one; the error that a refusal stands for.

        `body` is sent as JSON, `content` as it is, made anew for each try. `again` says that the call may be repeated
        though the server may have done it already.
        """
        tries = _Tries(self.patience.call_s if patience_s is None else patience_s)
        while True:
            try:
                async with self._send(
                    method,
                    path,
                    params=params,
                    json=body,
                    content=None if content is None else content(),
                    headers=headers,
                    timeout=httpx2.Timeout(READ_S, connect=CONNECT_S, read=read_s),
                ) as answer:
                    return await self._json(answer)
            except CutError as error:
                if error.sent and not again:
                    raise
                await tries.wait(error)

    async def read(
        self, path: str, params: Mapping[str, Any] | None = None, *, offset: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes that are at `path`, from `offset` on; where the connection is cut, go on behind what came."""
        tries = _Tries(self.patience.call_s)
        while True:
            headers = {"Accept-Encoding": "identity", "Range": f"bytes={offset}-"} if offset else _AS_IT_IS
            try:
                async with self._send("GET", path, params=params, headers=headers) as answer:
                    known = 0 if answer.status_code == HTTPStatus.PARTIAL_CONTENT else offset
                    async for data in answer.aiter_bytes():
                        tries.reset()
                        fresh, known = data[known:], max(0, known - len(data))
                        offset += len(fresh)
                        if fresh:
                            yield fresh
                    return
            except _EndError:
                return
            except CutError as error:
                await tries.wait(error)

    async def events(
        self, path: str, params: Mapping[str, Any] | None = None, *, after: str | None = None
    ) -> AsyncGenerator[httpx2.ServerSentEvent, None]:
        """Yield server-sent events, from the one behind the id `after` on, until the server says that nothing follows.

        A connection that was cut, or that the server closed before, is made again behind the last event that came.
        """
        tries = _Tries(self.patience.follow_s)
        while True:
            opened_at = math.inf
            headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
            if after is not None:
                headers["Last-Event-ID"] = after
            try:
                async with self._send("GET", path, params=params, headers=headers) as answer:
                    self._require(answer, "text/event-stream")
                    opened_at = time.monotonic()
                    with _mapped(self.target):
                        async for event in httpx2.EventSource(answer, max_event_size=MAX_EVENT_BYTES):
                            tries.reset()
                            if event.event == "end":
                                return
                            if event.event == "error":
                                raise self._broken_off(event)
                            after = event.id or after
                            yield event
                raise CutError(f"{self.target.url} closed the connection")
            except CutError as error:
                if time.monotonic() - opened_at > LIVED_S:
                    tries.reset()
                log.info("connection lost, made again", extra={"error": error.message})
                await tries.wait(error)

    # ------------------------------------------------------------------------------------------------------- answers

    @asynccontextmanager
    async def _send(self, method: str, path: str, **more: Any) -> AsyncIterator[httpx2.Response]:
        """Give the answer, its body yet to be read; whatever is no success is an error."""
        with _mapped(self.target):
            async with self._http.stream(method, _PREFIX + path, **more) as answer:
                await self._refuse(answer)
                yield answer

    async def _refuse(self, answer: httpx2.Response) -> None:
        status = answer.status_code
        if answer.is_success:
            return
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _EndError("there is nothing behind what came")
        if answer.has_redirect_location:
            place = answer.headers["location"].partition("?")[0]
            raise ServerError(
                f"{self.target.url} sends callers to {place[:200]}, where the token does not go",
                hint="if that is the server, give its URL",
            )
        error = to_error(status, _media_type(answer), await self._some(answer, MAX_ERROR_BYTES), server=self.target.url)
        if status in RETRIED:
            raise CutError(error.message, hint=error.hint, after_s=_retry_after(answer)) from error
        raise error

    async def _json(self, answer: httpx2.Response) -> Any:
        if answer.status_code == HTTPStatus.NO_CONTENT:
            return None
        self._require(answer, "application/json")
        body = await self._some(answer, MAX_JSON_BYTES + 1)
        if len(body) > MAX_JSON_BYTES:
            raise ServerError(f"{self.target.url} answered with more than {MAX_JSON_BYTES >> 20} MiB")
        try:
            return json.loads(body)
        except ValueError as error:
            raise ServerError(f"{self.target.url} answered with JSON that can't be read") from error

    def _broken_off(self, event: httpx2.ServerSentEvent) -> StrettoError:
        """Return the error that ended a stream of events: a problem, as far as it goes."""
        body = event.data.encode()
        try:
            status = int(json.loads(body)["status"])
        except (ValueError, KeyError, TypeError):
            status = HTTPStatus.INTERNAL_SERVER_ERROR
        error = to_error(status, PROBLEM, body, server=self.target.url)
        return CutError(error.message, hint=error.hint) if status in RETRIED else error

    def _require(self, answer: httpx2.Response, media_type: str) -> None:
        found = _media_type(answer)
        if found != media_type:
            raise ServerError(
                f"{self.target.url} answered with {found[:80] or 'no type'} where {media_type} belongs: "
                "it is no Stretto server, or something stands before it",
                hint="check the server's URL",
            )

    async def _some(self, answer: httpx2.Response, limit: int) -> bytes:
        """Return the body up to about `limit` bytes; a larger one is not read on."""
        body = bytearray()
        async for data in answer.aiter_bytes():
            body += data
            if len(body) >= limit:
                break
        return bytes(body[:limit])


_PREFIX: Final = "/api/v1"
_AS_IT_IS: Final = {"Accept-Encoding": "identity"}


def _tls(target: Target) -> ssl.SSLContext:
    """Return what checks certificates; without TLS one that trusts nobody, as loading the authorities takes 30 ms."""
    return ssl.create_default_context() if target.url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _EndError(StrettoError):
    """Nothing is left of what was to be read on."""


class _Tries:
    """When a call is made again, and when no more. `reset` is for what has brought something meanwhile."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._made = 0
        self._end = time.monotonic() + self._patience_s

    async def wait(self, error: CutError) -> None:
        """Wait before the next try; raise the error when it is too late for one."""
        wait_s = min(MAX_WAIT_S, FIRST_WAIT_S * 2**self._made) * random.uniform(0.5, 1.0)
        if error.after_s is not None:
            wait_s = max(wait_s, min(error.after_s, MAX_RETRY_AFTER_S))
        if time.monotonic() + wait_s > self._end:
            raise ServerError(error.message, hint=error.hint) from error
        self._made += 1
        await asyncio.sleep(wait_s)


@contextmanager
def _mapped(target: Target) -> Iterator[None]:
    """Turn the errors of the HTTP library into ours."""
    url = target.url
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        if reason := _certificate_fault(error):
            raise ServerError(
                f"the certificate of {url} is not valid: {reason}",
                hint="name the file of the certificate's authority with SSL_CERT_FILE",
            ) from error
        raise CutError(
            f"{url} can't be reached: {_reason(error)}",
            hint="is it running, and is this its URL? `--server none` does without",
            sent=False,
        ) from error
    except httpx2.TimeoutException as error:
        raise CutError(f"{url} does not answer in time") from error
    except (httpx2.NetworkError, httpx2.ProtocolError) as error:
        raise CutError(f"the connection to {url} broke: {_reason(error)}") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, httpx2.SSEError) as error:
        raise ServerError(f"{url} can't be talked to: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Return what the system says at the bottom of an error."""
    deepest = error
    while (below := deepest.__cause__ or deepest.__context__) is not None:
        deepest = below
    if isinstance(deepest, OSError) and deepest.strerror:
        by_number = not isinstance(deepest, ssl.SSLError | socket.gaierror) and deepest.errno is not None
        return os.strerror(deepest.errno or 0) if by_number else deepest.strerror
    return str(error) or type(error).__name__


def _certificate_fault(error: BaseException) -> str | None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return None


def _media_type(answer: httpx2.Response) -> str:
    found: str = answer.headers.get("content-type", "")
    return found.partition(";")[0].strip().lower()


def _retry_after(answer: httpx2.Response) -> float | None:
    """Return the seconds that the server wants to be left alone; a date is not looked at."""
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None
