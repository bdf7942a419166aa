"""An engine that misbehaves: whatever it does, only errors of our tree leave the driver."""

from __future__ import annotations

import asyncio
import errno
import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import h11
import pytest

from stretto.core.errors import DriverError, EngineUnavailableError
from stretto.core.states import Reason
from stretto.drivers.docker import DockerDriver, DockerSettings
from stretto.drivers.docker.client import Client, RefusedError
from stretto.drivers.docker.container import Place
from stretto.drivers.docker.endpoint import resolve
from stretto.drivers.docker.transport import Foreign, foreign_errors
from tests.unit.drivers.docker.support import Answer, fake_engine, http, launch


def client_of(host: str, timeout_s: float = 5.0) -> Client:
    """Return a client of the engine at `host`."""
    return Client(resolve(host, {}), connect_timeout_s=2.0, request_timeout_s=timeout_s)


def test_map_covers_all_that_the_libraries_raise() -> None:
    """Every error class of h11, of sockets and TLS, and of asyncio's streams is one that is turned into ours."""
    classes = [item for item in vars(h11).values() if isinstance(item, type) and issubclass(item, Exception)]
    classes += [item for item in vars(ssl).values() if isinstance(item, type) and issubclass(item, Exception)]
    classes += [asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError, ConnectionError, EOFError]
    assert len(classes) > 8
    assert [cls for cls in classes if not issubclass(cls, Foreign)] == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), Reason.DISK_FULL),
        (ConnectionRefusedError("refused"), Reason.ENGINE_UNAVAILABLE),
        (h11.RemoteProtocolError("garbage"), Reason.ENGINE_UNAVAILABLE),
        (TimeoutError(), Reason.ENGINE_UNAVAILABLE),
    ],
)
def test_foreign_error_gets_a_reason(error: Exception, reason: Reason) -> None:
    """A full disk is told from an engine that is away, and the cause is kept."""
    with pytest.raises(DriverError) as caught, foreign_errors("here"):
        raise error
    assert caught.value.reason == reason
    assert caught.value.__cause__ is error


ODDITIES: dict[str, Answer] = {
    "silence": lambda method, target: None,
    "nothing": lambda method, target: b"",
    "garbage": lambda method, target: b"\x00\xff no HTTP \r\n\r\n",
    "half": lambda method, target: b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut off",
    "html": lambda method, target: http(200, b"<html>"),
    "error": lambda method, target: http(500, json.dumps({"message": "the shim is broken"}).encode()),
    "error-html": lambda method, target: http(502, b"<html>Bad gateway</html>"),
    "null": lambda method, target: http(200, b"null"),
    "list": lambda method, target: http(200, b"[]"),
    "object": lambda method, target: http(200, b"{}"),
    "number": lambda method, target: http(200, b"17"),
}


@pytest.mark.parametrize("oddity", list(ODDITIES))
async def test_odd_engine_makes_errors_of_ours_only(tmp_path: Path, oddity: str) -> None:
    """Every call of the driver ends in time, well or with a DriverError, never with anything else."""
    async with fake_engine(tmp_path / "e.sock", ODDITIES[oddity]) as engine:
        settings = DockerSettings(host=engine.host, request_timeout_s=0.2, reconnect_s=0.3, pull="never")
        driver = DockerDriver(settings, installation="odd")
        what = launch(tmp_path, "true", image="x:1")
        handle = Place.of(what.key, what.directory).handle()
        what.directory.mkdir(parents=True)
        (what.directory / "released").touch()

        async def read() -> None:
            async for _ in driver.logs(handle, 0):
                pass

        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: driver.prepare(what),
            lambda: driver.start(what),
            lambda: driver.find(what.key, what.directory),
            lambda: driver.wait(handle),
            read,
            lambda: driver.stop(handle, 0.1),
            lambda: driver.collect(handle, ["*"], 1000),
            driver.orphans,
            lambda: driver.remove(handle),
        ]
        failed = 0
        for call in calls:
            async with asyncio.timeout(10):
                try:
                    await call()
                except DriverError:
                    failed += 1
        await driver.close()
        assert failed >= 3


async def test_no_engine_is_engine_unavailable(tmp_path: Path) -> None:
    """A socket that isn't there is an engine that doesn't answer, with a hint."""
    driver = DockerDriver(DockerSettings(host=f"unix://{tmp_path}/none.sock"), installation="odd")
    with pytest.raises(EngineUnavailableError) as caught:
        await driver.start(launch(tmp_path, "true", image="x:1"))
    assert caught.value.reason == Reason.ENGINE_UNAVAILABLE
    assert "none.sock" in caught.value.message
    assert caught.value.hint
    await driver.close()


async def test_refusal_keeps_the_engines_words(tmp_path: Path) -> None:
    """Status and message of a refusal are kept, the message cut."""
    body = json.dumps({"message": "no such thing " + "x" * 2000}).encode()
    async with fake_engine(tmp_path / "e.sock", lambda method, target: http(404, body)) as engine:
        client = client_of(engine.host)
        with pytest.raises(RefusedError) as caught:
            await client.call("GET", "/thing")
        assert caught.value.status == 404
        assert "no such thing" in caught.value.message
        assert len(caught.value.message) < 600
        await client.close()


async def test_full_disk_of_the_engine_is_disk_full(tmp_path: Path) -> None:
    """The engine's words for a full disk give the reason."""
    body = b'{"message": "write /var/lib/docker/x: no space left on device"}'
    async with fake_engine(tmp_path / "e.sock", lambda method, target: http(500, body)) as engine:
        client = client_of(engine.host)
        with pytest.raises(DriverError) as caught:
            await client.call("POST", "/containers/create", json_body={})
        assert caught.value.reason == Reason.DISK_FULL
        await client.close()


@pytest.mark.parametrize(
    ("ping", "word"),
    [(http(200, b"OK", "Api-Version: 1.39"), "too old"), (http(200, b"hello"), "no Docker engine")],
)
async def test_wrong_engine_is_refused(tmp_path: Path, ping: bytes, word: str) -> None:
    """An API before 1.40, or a server that is no engine at all, is said to be that."""
    async with fake_engine(tmp_path / "e.sock", lambda method, target: http(200, b"{}"), ping=ping) as engine:
        client = client_of(engine.host)
        with pytest.raises(EngineUnavailableError, match=word):
            await client.call("GET", "/info")
        await client.close()


async def test_connections_are_kept(tmp_path: Path) -> None:
    """Calls one after the other share a connection; a kept one that has died is replaced without an error."""
    seen: list[str] = []

    def answer(method: str, target: str) -> bytes:
        seen.append(target)
        return http(200, b'{"end": "cut off"}' if len(seen) == 3 else b"{}")

    async with fake_engine(tmp_path / "e.sock", answer) as engine:
        client = client_of(engine.host)
        for _ in range(5):
            await client.call("GET", "/info")
        assert seen == ["/v1.41/info"] * 5
        assert engine.connections == 2
        await client.close()


async def test_calls_at_once_have_connections_of_their_own(tmp_path: Path) -> None:
    """A call that waits holds up no other."""

    def answer(method: str, target: str) -> bytes | None:
        return None if target.endswith("/slow") else http(200, b"{}")

    async with fake_engine(tmp_path / "e.sock", answer) as engine:
        client = client_of(engine.host)
        slow = asyncio.create_task(client.call("GET", "/slow"))
        assert await client.call("GET", "/quick") == {}
        assert not slow.done()
        slow.cancel()
        await asyncio.wait({slow})
        assert slow.cancelled()
        await client.close()
