"""Where the engine is, and a connection to it. Knows sockets, TLS and ssh; knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import shlex
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from stretto.core.errors import EngineUnavailableError, SettingsError
from stretto.core.frozen import frozen

DEFAULT_SOCKET = "/var/run/docker.sock"
END_TIMEOUT_S = 2.0
"""How long an ssh may take to end."""
HINT = "is the engine running, and may you use it?"
CERTIFICATES = ("ca.pem", "cert.pem", "key.pem")
"""What the folder of certificates holds: who may be the engine, who we are, and the key to that."""
BUFFER_BYTES = 256 * 1024
"""What a stream reads ahead at most (asyncio pauses the sender at twice that)."""


class Channel:
    """A pair of byte streams to the engine. `close` may be called any number of times."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        tunnel: asyncio.subprocess.Process | None = None,
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._tunnel = tunnel

    def close(self) -> None:
        """Let go of the connection at once; what the engine does goes on."""
        self.writer.close()
        if self.has_tunnel:
            self._signal("terminate")

    @property
    def has_tunnel(self) -> bool:
        """Whether a process carries the bytes, and still runs."""
        return self._tunnel is not None and self._tunnel.returncode is None

    async def wait_closed(self) -> None:
        """Come back when nothing of a closed channel is left; its process is killed if it does not end."""
        if self._tunnel is None:
            return
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await self._tunnel.wait()
        except TimeoutError:
            self._signal("kill")
            await self._tunnel.wait()

    def _signal(self, method: Literal["terminate", "kill"]) -> None:
        try:
            getattr(self._tunnel, method)()
        except ProcessLookupError:
            return  # it ended by itself a moment ago


@frozen
class Endpoint:
    """The engine's address. `text` is for messages."""

    text: str

    @property
    def hint(self) -> str:
        """What to look at when the engine does not answer."""
        return HINT

    async def dial(self) -> Channel:
        """Return a new connection; raises OSError and what descends from it, EngineUnavailableError for unusable certificates."""
        raise NotImplementedError


@frozen
class UnixEndpoint(Endpoint):
    """A socket of this host."""

    path: str

    async def dial(self) -> Channel:
        """Connect to the socket."""
        return Channel(*await asyncio.open_unix_connection(self.path, limit=BUFFER_BYTES))


@frozen
class TcpEndpoint(Endpoint):
    """A TCP port; `certificates` None means without TLS, else the folder with `ca.pem`, `cert.pem` and `key.pem`."""

    host: str
    port: int
    certificates: Path | None = None

    @property
    def hint(self) -> str:
        """With TLS 1.3 an engine that does not take our certificate hangs up later, and its reason may be lost on the way."""
        if self.certificates is None:
            return "is the engine running there?"
        return (
            f"is the engine running there, and are the certificates in {self.certificates} (DOCKER_CERT_PATH) for it?"
        )

    async def dial(self) -> Channel:
        """Connect to the port, verifying the engine's certificate with TLS."""
        context = None if self.certificates is None else await asyncio.to_thread(_context, self.certificates)
        return Channel(*await asyncio.open_connection(self.host, self.port, ssl=context, limit=BUFFER_BYTES))


@frozen
class SshEndpoint(Endpoint):
    """A host reached with the user's own ssh; `arguments` end with the host. Its `docker system dial-stdio` is the far end."""

    arguments: tuple[str, ...]

    async def dial(self) -> Channel:
        """Start ssh and speak through its standard streams."""
        tunnel = await asyncio.create_subprocess_exec(
            "ssh",
            *self.arguments,
            shlex.join(("docker", "system", "dial-stdio")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=BUFFER_BYTES,
            start_new_session=True,
        )
        if (
            tunnel.stdin is None or tunnel.stdout is None
        ):  # pragma: no cover: asyncio always makes what it was asked for
            raise ConnectionError("ssh has no streams")
        return Channel(tunnel.stdout, tunnel.stdin, tunnel)


def resolve(host: str | None, environ: Mapping[str, str]) -> Endpoint:
    """Return the endpoint that `host`, else the environment (as the engine's own tools read it), else this host means."""
    text = host or environ.get("DOCKER_HOST") or _default_host(environ)
    url = urlsplit(text)
    try:
        port = url.port
    except ValueError as error:
        raise SettingsError(f"the Docker host {text!r} has no valid port") from error
    if url.scheme == "unix" and url.path:
        return UnixEndpoint(text, url.path)
    if url.scheme == "tcp" and url.hostname:
        folder = Path(environ.get("DOCKER_CERT_PATH") or Path(environ.get("HOME", "/")) / ".docker")
        secure = bool(environ.get("DOCKER_TLS_VERIFY"))
        return TcpEndpoint(text, url.hostname, port or (2376 if secure else 2375), folder if secure else None)
    if url.scheme == "ssh" and url.hostname and not url.hostname.startswith("-"):
        return SshEndpoint(_without_password(url), _ssh_arguments(url, port))
    raise SettingsError(
        f"the Docker host {text!r} is not understood", hint="unix:///path, tcp://host:port or ssh://[user@]host[:port]"
    )


def _context(folder: Path) -> ssl.SSLContext:
    """Return what verifies the engine and shows it our certificate. Blocks."""
    ca, certificate, key = (folder / name for name in CERTIFICATES)
    try:
        for path in (ca, certificate, key):
            path.open("rb").close()  # OpenSSL's own complaint names no file
        context = ssl.create_default_context(cafile=str(ca))
        # An empty password: without one, OpenSSL would ask the terminal for that of an encrypted key, and wait for ever.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise EngineUnavailableError(
            f"the certificates for the Docker engine in {folder} can't be used: {error}",
            hint=f"DOCKER_CERT_PATH names a folder with {', '.join(CERTIFICATES)}, the key without a password",
        ) from error
    return context


def _default_host(environ: Mapping[str, str]) -> str:
    """Return this host's socket: the system's, else that of a rootless engine."""
    rootless = Path(environ.get("XDG_RUNTIME_DIR") or "/nonexistent") / "docker.sock"
    if not Path(DEFAULT_SOCKET).exists() and rootless.exists():
        return f"unix://{rootless}"
    return f"unix://{DEFAULT_SOCKET}"


def _ssh_arguments(url: SplitResult, port: int | None) -> tuple[str, ...]:
    user = ("-l", url.username) if url.username else ()
    where = ("-p", str(port)) if port else ()
    return ("-T", "-o", "BatchMode=yes", *user, *where, "--", url.hostname or "")


def _without_password(url: SplitResult) -> str:
    return f"ssh://{url.hostname}" + (f":{url.port}" if url.port else "")
