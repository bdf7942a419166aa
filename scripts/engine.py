"""A few calls to a Docker engine's API, for scripts, tests and floors of benches. The `docker` command is not needed.

Not the driver: that one is asynchronous and lives in `stretto.drivers.docker`. This one blocks, and keeps its connection.
API: Docker Engine 1.41 (Docker 20.10).
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

DEFAULT_ADDRESS = "unix:///run/docker.sock"
PING_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 120.0

Body = bytes | Iterable[bytes] | Mapping[str, Any] | None


class EngineError(Exception):
    """The engine refused a call, or does not answer."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """One kept connection to the engine at `address` (`unix://PATH` or `tcp://HOST:PORT`); for one thread."""

    def __init__(self, address: str, *, timeout_s: float = CALL_TIMEOUT_S) -> None:
        scheme, _, place = address.partition("://")
        self._connection: http.client.HTTPConnection
        if scheme == "unix":
            self._connection = _UnixConnection(place, timeout_s)
        elif scheme == "tcp":
            self._connection = http.client.HTTPConnection(place, timeout=timeout_s)
        else:
            raise EngineError(f"can't talk to the Docker engine at {address!r}: use unix:// or tcp://")
        self.address = address

    def call(self, method: str, path: str, body: Body = None, **query: str) -> Any:
        """Return the answer as JSON data, or as text where it is none; EngineError for a status of 400 and above."""
        headers = {"Content-Type": "application/x-tar"}
        if isinstance(body, Mapping):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            self._connection.request(method, target, body, headers)
            answer = self._connection.getresponse()
            status, text = answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise EngineError(f"the Docker engine at {self.address} does not answer: {error}") from error
        if status >= 400:
            raise EngineError(f"{method} {path}: {status} {text[:500].strip()}")
        try:
            return json.loads(text)
        except ValueError:
            return text

    def has_image(self, tag: str) -> bool:
        """Return whether the engine holds the image."""
        return any(tag in (image["RepoTags"] or ()) for image in self.call("GET", "/images/json"))

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()


def answers(address: str) -> bool:
    """Return whether an engine answers at `address` within five seconds."""
    engine = None
    try:
        engine = Engine(address, timeout_s=PING_TIMEOUT_S)
        return bool(engine.call("GET", "/_ping") == "OK")
    except EngineError:
        return False
    finally:
        if engine:
            engine.close()


def find(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the address of the engine that answers: `DOCKER_HOST` alone where it is set, else the usual sockets."""
    if chosen := environment.get("DOCKER_HOST"):
        return chosen if answers(chosen) else None
    usual = [DEFAULT_ADDRESS]
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        usual.append(f"unix://{runtime}/docker.sock")
    return next((address for address in usual if answers(address)), None)
