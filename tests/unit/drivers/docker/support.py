"""What the tests of the driver `docker` share: launches, an engine that misbehaves, an engine of their own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stretto.core.events import Handle, Outcome
from stretto.core.ports import Driver, Launch, Tree
from stretto.core.spec import AttemptKey, ContainerSpec, JobSpec, Script
from tests.support.images import engine_answers, import_image

NUMBERS = itertools.count(1)


def launch(
    directory: Path, *lines: str, image: str, user: str | None = None, tree: Tree | None = None, **script: Any
) -> Launch:
    """Return the launch of a new job with these lines."""
    key = AttemptKey(f"t{os.getpid()}", f"job{next(NUMBERS)}", 1)
    spec = JobSpec(key.job, "test", "docker", script=Script(lines, **script), container=ContainerSpec(image, user=user))
    return Launch(key, spec, directory / "attempts" / key.name, tree)


async def read_log(driver: Driver, handle: Handle, position: int = 0) -> bytes:
    """Return the whole output after `position`."""
    return b"".join([chunk.data async for chunk in driver.logs(handle, position)])


async def run(driver: Driver, what: Launch) -> tuple[bytes, Outcome]:
    """Return output and outcome of an attempt, which stays."""
    handle = await driver.start(what)
    log, outcome = await asyncio.gather(read_log(driver, handle), driver.wait(handle))
    return log, outcome


Answer = Callable[[str, str], bytes | None]
"""Method and target to the bytes to send; None means silence."""


def http(status: int, body: bytes, *headers: str) -> bytes:
    """Return an HTTP answer."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


PING = http(200, b"OK", "Api-Version: 1.41")


@dataclass
class FakeEngine:
    """A server that is or isn't an engine. `connections` counts those that were made."""

    host: str
    connections: int = 0


@contextlib.asynccontextmanager
async def fake_engine(path: Path, answer: Answer, *, ping: bytes = PING) -> AsyncIterator[FakeEngine]:
    """Serve `answer` on a socket at `path`; after an answer with the words "cut off" the connection is closed."""
    engine = FakeEngine(f"unix://{path}")
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine.connections += 1
        writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                for line in head.split("\r\n"):
                    if line.lower().startswith("content-length:"):
                        await reader.readexactly(int(line.split(":")[1]))
                method, target, _ = head.split(" ", 2)
                data = ping if target == "/_ping" else answer(method, target)
                if data is None:
                    await reader.read()
                    break
                writer.write(data)
                await writer.drain()
                if not data.startswith(b"HTTP/1.1 ") or b"cut off" in data:
                    break
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield engine
    finally:
        server.close()
        for writer in writers:
            writer.close()


class Engine:
    """A dockerd of the test's own, which may be killed. `prefix` is run before it.

    It has a network namespace of its own: with `--bridge=none` dockerd deletes the interface `docker0`, which in the machine's
    namespace belongs to the machine's engine.
    """

    def __init__(self, directory: Path, prefix: tuple[str, ...] = ()) -> None:
        self._directory = directory
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = directory / "d.sock"

    @property
    def host(self) -> str:
        """The engine's address."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            *("dockerd", "-H", self.host, "--bridge=none", "--iptables=false", "--ip6tables=false"),
            *("--data-root", str(self._directory / "data"), "--exec-root", str(self._directory / "exec")),
            *("--pidfile", str(self._directory / "pid"), "--cgroup-parent", "stretto-test"),
        ]
        (self._directory / "pid").unlink(missing_ok=True)
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(["unshare", "--net", *self._prefix, *command], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not (self.socket.exists() and engine_answers(str(self.socket))):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError((self._directory / "log").read_text()[-2000:])
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill it and its containerd without a chance to put anything away; the containers' own shims live on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        for pid in _pids_of(f"{self._directory}/exec/containerd/containerd.toml"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        (self._directory / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it, and the containerd that it started."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        for pid in _pids_of(f"{self._directory}/exec"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if (mount := line.split(" ")[1]).startswith(str(self._directory)):
                subprocess.run(["umount", "-l", mount], check=False)


@contextlib.contextmanager
def started(directory: Path, image: str, *, hidden: Path | None = None) -> Iterator[Engine]:
    """Give a running engine with the image. It lives in a mount namespace of its own where `hidden` of this host is empty."""
    hide = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none {hidden} && exec "$@"', "sh")
    engine = Engine(directory, () if hidden is None else hide)
    try:
        engine.start()
        import_image(image, path=str(engine.socket))
        yield engine
    finally:
        engine.stop()


def _pids_of(text: str) -> Iterator[int]:
    """Yield the processes whose command line names `text`."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes():
                yield int(path.parent.name)
