"""A real `stretto serve` on a free port of the loopback, with a home of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.background import until
from tests.support.cli import PROGRAM, environment

END_S = 20.0
"""A server that is told to end has followers to let go and a store to close."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers. `token` may do anything."""

    home: Path
    url: str
    token: str

    @property
    def variables(self) -> dict[str, str]:
        """What makes commands talk to it."""
        return {"STRETTO_SERVER": self.url, "STRETTO_TOKEN": self.token}


@contextmanager
def serving(home: Path, *, variables: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Give a server whose state is in `home`, and whose callers may ask for every driver; it ends in good order."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = {"STRETTO_API_DRIVERS": "docker process", "STRETTO_SERVER": "none", **(variables or {})}
    with (home / "serve.log").open("wb") as log:
        program = subprocess.Popen(
            [PROGRAM, "serve", *([] if "STRETTO_API_PORT" in wanted else ["--port", "0"])],
            env=environment(home, wanted),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        told = home / "server.json"
        until(lambda: told.exists() or program.poll() is not None, "server")
        assert program.poll() is None, (home / "serve.log").read_text()
        said = json.loads(told.read_text())
        yield Server(home, said["url"], said["token"])
        program.terminate()
        assert program.wait(END_S) == 0, (home / "serve.log").read_text()
    finally:
        if program.poll() is None:
            program.kill()
            program.wait()
