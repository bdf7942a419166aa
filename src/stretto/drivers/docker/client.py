"""The Docker Engine API: paths with the right version, JSON both ways, refusals as errors with a reason.

Source: "Docker Engine API", versions 1.40 (Docker 19.03) to 1.48; nothing here is used that changed its meaning between them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

from stretto.core.errors import DriverError, EngineUnavailableError
from stretto.core.states import Reason
from stretto.drivers.docker.endpoint import Endpoint
from stretto.drivers.docker.transport import Hijacked, Response, Transport

T = TypeVar("T")

OLDEST_API: Final = (1, 40)
NEWEST_API: Final = (1, 48)
"""Asked for where the engine knows more: later versions may mean something else."""
MESSAGE_LIMIT: Final = 500
"""Characters of an engine's message that are shown."""
FOREVER: Final = float("inf")


class RefusedError(DriverError):
    """The engine answered with an error; `status` is the HTTP status."""

    def __init__(self, message: str, *, status: int, reason: str) -> None:
        super().__init__(message, reason=reason)
        self.status = status


class Client:
    """Requests to one engine. Any number at once."""

    def __init__(self, endpoint: Endpoint, *, connect_timeout_s: float, request_timeout_s: float) -> None:
        self._transport = Transport(endpoint, connect_timeout_s=connect_timeout_s, request_timeout_s=request_timeout_s)
        self._prefix: str | None = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        json_body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Send a request and return the answer's JSON, None where it has no body; RefusedError for statuses from 400.

        `timeout_s` None means the setting, FOREVER none.
        """
        fields, body = _json_request(headers, json_body)
        target = await self._target(path, query)
        response = await self._transport.request(method, target, headers=fields, body=body, timeout_s=timeout_s)
        return self._parse(await self._read(response, timeout_s))

    async def stat(self, path: str, *, query: Mapping[str, Any], header: str) -> str | None:
        """Return a header of the answer to HEAD, None for 404."""
        response = await self._transport.request("HEAD", await self._target(path, query))
        await self._read(response, None, errors=False)
        if response.status == 404:
            return None
        if response.status >= 400:
            raise self._refused(response.status, b"")
        return {name.lower(): value for name, value in response.headers.items()}.get(header)

    async def stream(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        json_body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Response:
        """Return an answer whose body comes as time goes by; close it. `timeout_s` is for its head."""
        target = await self._target(path, query)
        fields, body = _json_request(headers, json_body)
        response = await self._transport.request(method, target, headers=fields, body=body, timeout_s=timeout_s)
        if response.status >= 400:
            raise self._refused(response.status, await self._read(response, None, errors=False))
        return response

    async def upload(
        self, path: str, *, query: Mapping[str, Any], body: AsyncIterator[bytes], timeout_s: float
    ) -> None:
        """PUT a tar archive of unknown length."""
        response = await self._transport.request(
            "PUT",
            await self._target(path, query),
            headers={"Content-Type": "application/x-tar"},
            stream=body,
            timeout_s=timeout_s,
        )
        await self._read(response, timeout_s)

    async def hijack(self, path: str, *, query: Mapping[str, Any]) -> Hijacked:
        """Return the connection itself, as `attach` gives it."""
        answer = await self._transport.hijack("POST", await self._target(path, query))
        if isinstance(answer, Response):
            raise self._refused(answer.status, await self._read(answer, None, errors=False))
        return answer

    async def close(self) -> None:
        """Let go of the connections."""
        await self._transport.close()

    async def _target(self, path: str, query: Mapping[str, Any] | None) -> str:
        if self._prefix is None:
            self._prefix = await self._negotiate()
        return f"{self._prefix}{path}" + (f"?{urlencode(query)}" if query else "")

    async def _negotiate(self) -> str:
        response = await self._transport.request("GET", "/_ping")
        await self._read(response, None)
        text = {name.lower(): value for name, value in response.headers.items()}.get("api-version", "")
        try:
            major, minor = (int(part) for part in text.split("."))
        except ValueError as error:
            raise EngineUnavailableError(
                f"what answers at {self._transport.where} is no Docker engine", hint="is the address right?"
            ) from error
        if (major, minor) < OLDEST_API:
            raise EngineUnavailableError(
                f"the Docker engine at {self._transport.where} is too old: it speaks API {text}, 1.40 is needed",
                hint="Docker 19.03 or later",
            )
        version = min((major, minor), NEWEST_API)
        return f"/v{version[0]}.{version[1]}"

    async def _read(self, response: Response, timeout_s: float | None, *, errors: bool = True) -> bytes:
        """Return the body within the time-out; refuse statuses from 400 if `errors`."""
        limit_s = self._transport.timeout_s if timeout_s is None else timeout_s
        body = await self._transport.within(limit_s, response.read())
        if errors and response.status >= 400:
            raise self._refused(response.status, body)
        return body

    def _parse(self, body: bytes) -> Any:
        if not body:
            return None
        try:
            return json.loads(body)
        except ValueError as error:
            raise EngineUnavailableError(
                f"the Docker engine at {self._transport.where} answered with something that is no JSON"
            ) from error

    def _refused(self, status: int, body: bytes) -> RefusedError:
        message = refusal_message(body) or f"HTTP {status}"
        reason = Reason.DISK_FULL if "no space left on device" in message else Reason.START_FAILED
        return RefusedError(f"the Docker engine refused: {message}", status=status, reason=reason)


def field(data: Any, *path: str, kind: type[T]) -> T:
    """Return what is at `path` in an answer; EngineUnavailableError where it isn't there or isn't a `kind`."""
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    if not isinstance(data, kind):
        raise EngineUnavailableError(
            f"the Docker engine's answer has no {'.'.join(path) or kind.__name__}", hint="is it a Docker engine?"
        )
    return data


def _json_request(headers: Mapping[str, str] | None, json_body: Any) -> tuple[dict[str, str], bytes | None]:
    if json_body is None:
        return dict(headers or {}), None
    return {**(headers or {}), "Content-Type": "application/json"}, json.dumps(json_body).encode()


def refusal_message(body: bytes) -> str:
    """Return what the engine says in an error's body, cut to what can be shown."""
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = body.decode("utf-8", "replace")
    message = " ".join(message.split())
    return message if len(message) <= MESSAGE_LIMIT else message[:MESSAGE_LIMIT] + "…"


def segment(text: str) -> str:
    """Return `text` as one segment of a path."""
    return quote(text, safe="")
