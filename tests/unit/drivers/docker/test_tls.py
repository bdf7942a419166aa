"""An engine reached over TCP with TLS: a real TLS server in front of a real engine, certificates made with OpenSSL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from stretto.core.errors import EngineUnavailableError
from stretto.core.ports import Tree
from stretto.core.states import Reason
from stretto.drivers.docker import DockerDriver, DockerSettings
from tests.support.images import engine_answers, engine_socket, import_image, remove_image
from tests.unit.drivers.docker.support import launch, read_log, run, started

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl"),
]

IMAGE = f"stretto-tls-{os.getpid()}:1"


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.certificate, self._key = folder / "ca.pem", folder / "ca-key.pem"
        subject = ("-subj", f"/CN={folder.name}")
        openssl("req", "-x509", *new_key(self._key), *subject, "-days", "2", "-out", self.certificate)

    def issue(self, folder: Path, usage: str) -> Path:
        """Make a folder with `ca.pem`, `cert.pem` and `key.pem` for 127.0.0.1; `usage` is `serverAuth` or `clientAuth`."""
        folder.mkdir()
        extensions = folder / "extensions"
        extensions.write_text(f"subjectAltName = IP:127.0.0.1\nextendedKeyUsage = {usage}\n")
        openssl("req", *new_key(folder / "key.pem"), "-subj", f"/CN={usage}", "-out", folder / "request")
        by = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-days", "2", "-extfile", extensions)
        openssl("x509", "-req", "-in", folder / "request", *by, "-out", folder / "cert.pem")
        shutil.copy(self.certificate, folder / "ca.pem")
        return folder


def openssl(*arguments: str | Path) -> None:
    """Run openssl."""
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)


def new_key(path: Path) -> tuple[str | Path, ...]:
    """Return the arguments for a key of its own at `path`."""
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path)


def server_context(certificates: Path) -> ssl.SSLContext:
    """Return what shows the engine's certificate and wants one of the same authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextlib.contextmanager
def tls_door(certificates: Path) -> Iterator[str]:
    """Give the address of a TLS server for one client, which says why it lets it not in; asyncio's servers just hang up."""

    def answer() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(ssl.SSLError):
            server_context(certificates).wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join()


@contextlib.asynccontextmanager
async def tls_proxy(engine: str, certificates: Path) -> AsyncIterator[str]:
    """Give the address of a TLS server that asks clients for a certificate and hands their bytes to the engine at `engine`."""
    exchanges: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        exchanges.add(task)
        inner_reader, inner_writer = await asyncio.open_unix_connection(engine)
        both = {asyncio.create_task(pump(reader, inner_writer)), asyncio.create_task(pump(inner_reader, writer))}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)  # TLS closes both ways at once
        finally:
            for one in both:
                one.cancel()
            await asyncio.wait(both)
            for one_writer in (inner_writer, writer):
                one_writer.close()
                with contextlib.suppress(OSError):
                    await one_writer.wait_closed()
            exchanges.discard(task)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context(certificates))
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        while exchanges:
            for task in exchanges:
                task.cancel()
            await asyncio.wait(set(exchanges))


def driver_of(host: str, certificates: Path, **settings: Any) -> DockerDriver:
    """Return a driver that finds the engine as the environment says."""
    environ = {"DOCKER_HOST": host, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates)}
    return DockerDriver(
        DockerSettings(**{"pull": "never", "network": "none", **settings}), installation="tls", environ=environ
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs for the engine and for its users."""
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture
def server(authority: Authority, tmp_path: Path) -> Path:
    """The engine's certificates."""
    return authority.issue(tmp_path / "server", "serverAuth")


@pytest.fixture
def client(authority: Authority, tmp_path: Path) -> Path:
    """Our certificates."""
    return authority.issue(tmp_path / "client", "clientAuth")


@pytest.fixture
def image() -> Iterator[str]:
    """An image on the machine's engine."""
    yield import_image(IMAGE)
    remove_image(IMAGE)


def make_tree(directory: Path) -> Tree:
    """Return a tree of one layer."""
    base = directory / "base"
    base.mkdir()
    (base / "kept").write_text("as it was\n")
    return Tree((base,))


async def take_through(driver: DockerDriver, directory: Path, image: str) -> None:
    """Take one attempt from its start to its removal; nothing of it stays."""
    lines = ("cat kept", "head -c 300000 /dev/zero | tr '\\0' x", "mkdir dist; echo made >dist/a; echo more >>kept")
    what = launch(directory, *lines, image=image, tree=make_tree(directory))
    async with asyncio.timeout(60):
        await driver.prepare(what)
        log, outcome = await run(driver, what)
        assert log == b"as it was\n" + b"x" * 300_000
        assert outcome.exit_code == 0
        handle = await driver.start(what)
        assert await read_log(driver, handle, len(log) - 5) == b"x" * 5
        files = {file.path: file.source.read_text() for file in await driver.collect(handle, ["dist", "kept"], 10_000)}
        assert files == {"dist/a": "made\n", "kept": "as it was\nmore\n"}
        await driver.remove(handle)
        assert not what.directory.exists()
        assert await driver.orphans() == []


@pytest.mark.skipif(not engine_answers(), reason="no Docker engine answers at a socket of this host")
async def test_attempt_runs_over_tls(server: Path, client: Path, image: str, tmp_path: Path) -> None:
    """Start, log, wait, collect and remove work through TLS with both sides' certificates verified."""
    async with tls_proxy(engine_socket(), server) as host:
        driver = driver_of(host, client)
        await take_through(driver, tmp_path, image)
        await driver.close()


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("dockerd") is None, reason="needs root and dockerd")
async def test_attempt_is_uploaded_over_tls(
    server: Path, client: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An engine over TLS that sees none of our files gets tree and script as an upload and gives artifacts back."""
    hidden = tmp_path_factory.mktemp("hidden")
    with started(tmp_path_factory.mktemp("there"), IMAGE, hidden=hidden) as engine:
        async with tls_proxy(str(engine.socket), server) as host:
            driver = driver_of(host, client)
            await take_through(driver, hidden, IMAGE)
            assert driver._launcher._sees_files is False
            await driver.close()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("another authority's engine", "certificate verify failed"),
        ("no certificate", "No such file.*cert.pem"),
        ("no key of the certificate", "(?i)key values mismatch"),
        ("an encrypted key", "can't be used"),
        ("another host", "not valid for 'localhost'"),
    ],
)
async def test_wrong_certificates_are_told(
    authority: Authority, server: Path, client: Path, tmp_path: Path, fault: str, words: str
) -> None:
    """Whatever is wrong with the certificates is said at once, with a hint to where they are; nothing hangs or asks."""
    host_name = "127.0.0.1"
    match fault:
        case "another authority's engine":
            shutil.copy(Authority(tmp_path / "stranger").certificate, client / "ca.pem")
        case "no certificate":
            (client / "cert.pem").unlink()
        case "no key of the certificate":
            shutil.copy(server / "key.pem", client / "key.pem")
        case "an encrypted key":
            openssl("ec", "-in", client / "key.pem", "-aes128", "-passout", "pass:abc", "-out", client / "locked")
            (client / "locked").rename(client / "key.pem")
        case "another host":
            host_name = "localhost"
    async with tls_proxy("/nonexistent", server) as host, asyncio.timeout(10):
        driver = driver_of(host.replace("127.0.0.1", host_name), client)
        with pytest.raises(EngineUnavailableError, match=words) as caught:
            await driver.start(launch(tmp_path, "true", image=IMAGE))
        await driver.close()
    assert caught.value.reason == Reason.ENGINE_UNAVAILABLE
    assert "DOCKER_CERT_PATH" in (caught.value.hint or "")


async def test_client_that_the_engine_refuses_is_told(server: Path, client: Path, tmp_path: Path) -> None:
    """An engine that does not know who signed our certificate says so, or hangs up; the hint tells where to look."""
    other = Authority(tmp_path / "stranger").issue(tmp_path / "other", "clientAuth")
    shutil.copy(client / "ca.pem", other / "ca.pem")
    async with asyncio.timeout(10):
        with tls_door(server) as host:
            message = await refusal(host, other, tmp_path)
            # A server that closes with our request unread resets the connection, which may overtake its reason.
            assert "unknown ca" in message or "reset by peer" in message
        async with tls_proxy("/nonexistent", server) as host:
            assert "closed the connection without an answer" in await refusal(host, other, tmp_path)


async def refusal(host: str, certificates: Path, directory: Path) -> str:
    """Return what the driver says about an engine that can't be used."""
    driver = driver_of(host, certificates)
    with pytest.raises(EngineUnavailableError) as caught:
        await driver.start(launch(directory, "true", image=IMAGE))
    await driver.close()
    assert str(certificates) in (caught.value.hint or "")
    return caught.value.message


async def test_tls_client_says_what_a_plain_server_is(client: Path, tmp_path: Path) -> None:
    """A server that speaks no TLS, or says nothing at all, is told as that within the time a connection may take."""

    over: asyncio.Queue[None] = asyncio.Queue()

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await end(writer)

    async def hush(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await end(writer)

    async def end(writer: asyncio.StreamWriter) -> None:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        over.put_nowait(None)

    for serve, words in ((speak, "over TLS"), (hush, "did not answer in time")):
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with asyncio.timeout(10):
            driver = driver_of(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", client, connect_timeout_s=0.5)
            with pytest.raises(EngineUnavailableError, match=words):
                await driver.start(launch(tmp_path, "true", image=IMAGE))
            await driver.close()
            await over.get()
        server.close()
