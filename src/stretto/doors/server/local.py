"""What lets the command line of this host find the server that is running here: `server.json` in the home, for its owner only."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from stretto.access.audit import Entry
from stretto.access.gate import Gate
from stretto.access.principal import Scope

FILE_NAME: Final = "server.json"
MAKER: Final = "stretto serve"
_MODE: Final = 0o600


@asynccontextmanager
async def announced(home: Path, url: str, gate: Gate, *, place: str) -> AsyncIterator[Path]:
    """Write the file with the URL and a token for who runs this process; both are gone at the end.

    What an earlier server of this `place` left behind, killed as it was, goes at the start.
    """
    path, maker = home / FILE_NAME, f"{MAKER} {place}"
    await gate.register.drop(maker)
    text, _ = await gate.register.create(
        f"{getpass.getuser()}@{socket.gethostname()}",
        Scope.ADMIN,
        by=Entry(gate.now(), maker, "token.create", address="localhost"),
    )
    _write(path, json.dumps({"url": url, "token": text, "pid": os.getpid()}))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        await gate.register.drop(maker)


def _write(path: Path, text: str) -> None:
    """Put the file there as a whole; it is never open to others."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    with os.fdopen(number, "w", encoding="ascii") as file:
        file.write(text)
    draft.replace(path)
