"""Images for tests and measures, made on the spot from programs of this machine: nothing is pulled from a network.

`engine_call` is a few lines over the standard library on purpose: what tests and measures compare the driver with must not be the
driver's own client.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import socket
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

BUSYBOX = Path("/bin/busybox")
"""Statically linked (Debian: busybox-static)."""
PASSWD = "root:x:0:0:root:/root:/bin/sh\njob:x:1000:1000:job:/home/job:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
GROUP = "root:x:0:\njob:x:1000:\nnogroup:x:65534:\n"


def engine_socket() -> str:
    """Return the path of the engine's socket that tests use."""
    return os.environ.get("DOCKER_HOST", "").removeprefix("unix://") or "/var/run/docker.sock"


class EngineConnection(http.client.HTTPConnection):
    """One connection to an engine's socket; it may be used for any number of calls, one after the other."""

    def __init__(self, path: str | None = None) -> None:
        super().__init__("docker", timeout=120)
        self._path = path or engine_socket()

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def call(self, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        """Return status and JSON (None without a body) of a request."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
        self.request(method, f"/v1.40{target}", data, {} if body is None else {"Content-Type": kind})
        response = self.getresponse()
        text = response.read()
        try:
            return response.status, json.loads(text) if text else None
        except ValueError:
            return response.status, text


def engine_call(method: str, target: str, body: Any = None, *, path: str | None = None) -> tuple[int, Any]:
    """Make one call on a connection of its own."""
    connection = EngineConnection(path)
    try:
        return connection.call(method, target, body)
    finally:
        connection.close()


def engine_answers(path: str | None = None) -> bool:
    """Whether an engine answers at the socket."""
    try:
        return engine_call("GET", "/version", path=path)[0] == 200
    except OSError:
        return False


def import_image(
    name: str,
    *,
    shell: Path | None = BUSYBOX,
    changes: Sequence[str] = (),
    path: str | None = None,
) -> str:
    """Make the image `name` (`repository:tag`) of BusyBox with all its programs, and return its name.

    `shell` is what `/bin/sh` is, None for an image without one; `changes` are lines of a Dockerfile.
    """
    repository, _, tag = name.rpartition(":")
    query = urlencode({"fromSrc": "-", "repo": repository, "tag": tag, "changes": list(changes)}, doseq=True)
    status, answer = engine_call("POST", f"/images/create?{query}", _root_archive(shell), path=path)
    if status != 200 or (isinstance(answer, Mapping) and "error" in answer):
        raise RuntimeError(f"the image {name} can't be made: {answer}")
    return name


def remove_image(name: str, *, path: str | None = None) -> None:
    """Remove the image, if it is there."""
    engine_call("DELETE", f"/images/{name}?force=true", path=path)


def _root_archive(shell: Path | None) -> bytes:
    programs = subprocess.run(
        [BUSYBOX, "--list"], check=True, capture_output=True, text=True, timeout=10
    ).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700), ("lib64", 0o755)):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, mode
            archive.addfile(info)
        _add_file(archive, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        _add_file(archive, "etc/passwd", PASSWD.encode(), 0o644)
        _add_file(archive, "etc/group", GROUP.encode(), 0o644)
        for program in programs:
            if program not in ("busybox", "sh"):
                _add_link(archive, f"bin/{program}", "busybox")
        if shell == BUSYBOX:
            _add_link(archive, "bin/sh", "busybox")
        elif shell is not None:
            _add_file(archive, "bin/sh", shell.read_bytes(), 0o755)
            for library in _libraries(shell):
                _add_file(archive, str(library).lstrip("/"), library.read_bytes(), 0o755)
    return buffer.getvalue()


def _libraries(program: Path) -> list[Path]:
    """Return the shared libraries of a program, its loader included."""
    listing = subprocess.run(["ldd", program], check=True, capture_output=True, text=True, timeout=10).stdout
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", listing)]


def _add_file(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    archive.addfile(info, io.BytesIO(data))


def _add_link(archive: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    archive.addfile(info)
