"""What an attempt has left on record: the token `started` and the file `exit`, on this host or inside the container.

Files that a container can write are read with care: a link is not followed, a FIFO does not block, and no more than a few bytes
are believed.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from stretto.core.errors import EngineUnavailableError
from stretto.drivers.docker.client import Client, RefusedError, field, segment
from stretto.drivers.docker.container import Place, parse_time
from stretto.drivers.docker.wrapper import CONTROL

STARTED: Final = "started"
EXIT: Final = "exit"
STAT_HEADER: Final = "x-docker-container-path-stat"


async def inspect(client: Client, name: str) -> dict[str, Any] | None:
    """Return what the engine knows of a container, None if it knows none of that name."""
    try:
        data = await client.call("GET", f"/containers/{segment(name)}/json")
    except RefusedError as error:
        if error.status == 404:
            return None
        raise
    for part in ("State", "Config"):
        field(data, part, kind=dict)
    field(data, "State", "ExitCode", kind=int)
    return field(data, kind=dict)


def is_running(container: Mapping[str, Any]) -> bool:
    """Whether the container's processes are there."""
    return bool(container["State"].get("Running"))


async def written_at(client: Client, place: Place, name: str) -> datetime | None:
    """Return when the attempt wrote the control file `name`, None if it did not."""
    if place.control.is_dir():
        try:
            return datetime.fromtimestamp((place.control / name).lstat().st_mtime, UTC)
        except FileNotFoundError:
            return None
    path = f"/containers/{segment(place.name)}/archive"
    header = await client.stat(path, query={"path": f"{CONTROL}/{name}"}, header=STAT_HEADER)
    if header is None:
        return None
    try:
        return parse_time(str(json.loads(base64.b64decode(header))["mtime"])) or datetime.now(UTC)
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise EngineUnavailableError("the Docker engine described a file in a way that can't be read") from error


def read_exit(place: Place) -> int | None:
    """Return the exit code that the script left on this host, None if it left none that can be read."""
    return parse_exit(place.control / EXIT)


def parse_exit(path: Path) -> int | None:
    """Return the number in the wrapper's exit file; its final newline says that it was written whole."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(file, 16) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    except OSError:
        return None
    finally:
        os.close(file)
    match = re.fullmatch(rb"(\d{1,3})\n", text)
    return int(match[1]) if match else None
