"""The real `stretto` program in the background, for tests that do something to it while it runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.cli import PROGRAM, environment

DEADLINE_S = 60.0
"""Nothing that is waited for takes a tenth of this; a machine under load may."""


def until(condition: Callable[[], object], what: str, *, deadline_s: float = DEADLINE_S) -> None:
    """Wait until `condition()` holds; an AssertionError names `what` did not come."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"no {what} within {deadline_s:g} s"
        time.sleep(0.02)


def end_attempts(home: Path) -> None:
    """End what attempts of a home are still under way, as a test that failed leaves them."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{home}/attempts/".encode() in command.read_bytes():
                os.kill(int(command.parent.name), signal.SIGKILL)
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if (mount := line.split(" ")[1]).startswith(f"{home}/"):
            subprocess.run(["umount", "-l", mount], check=False, timeout=10)


class Programs:
    """Programs that were begun."""

    def __init__(self) -> None:
        self._begun: list[subprocess.Popen[bytes]] = []

    def begin(
        self, arguments: Sequence[str | Path], cwd: Path, home: Path, *, variables: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start `stretto ARGUMENTS` in `cwd`; what it prints is for `communicate`."""
        program = subprocess.Popen(
            [PROGRAM, *arguments],
            cwd=cwd,
            env=environment(home, variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._begun.append(program)
        return program

    def end(self) -> None:
        """Kill those that are still there."""
        for program in self._begun:
            if program.poll() is None:
                program.kill()
            program.communicate()


@contextmanager
def programs() -> Iterator[Programs]:
    """Give programs that are ended with the block."""
    begun = Programs()
    try:
        yield begun
    finally:
        begun.end()
