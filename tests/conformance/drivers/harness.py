"""What the conformance suite asks of a driver's harness, and what harnesses of drivers with a shell share.

A harness is the back-end and all that a test needs to know of it. It outlives the drivers it makes: a second `driver()` is what
an orchestrator makes after a crash.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from stretto.core.ports import Driver, Launch, Tree
from stretto.core.spec import AttemptKey, JobSpec, Script

SHELL = "shell"
"""The driver runs scripts."""
TREE = "tree"
"""The driver gives a script the files of a tree."""


@dataclass(frozen=True, slots=True)
class Work:
    """What an attempt is to do, in this order: count itself, print `output`, wait for `release` if `gated`, end with `exit_code`.

    With `ignores_term` it goes on waiting when it gets a TERM.
    """

    output: bytes = b""
    gated: bool = False
    exit_code: int = 0
    ignores_term: bool = False


class Harness(Protocol):
    """A driver's back-end in a test."""

    capabilities: ClassVar[frozenset[str]]

    def __init__(self, directory: Path) -> None:
        """Start with nothing; `directory` is the test's own."""

    def driver(self) -> Driver:
        """Return a new driver over the back-end."""

    def launch(self, work: Work) -> Launch:
        """Return a launch of a new job (a new key) that does `work`."""

    def release(self, launch: Launch) -> None:
        """Let the gated work of the launch go on."""

    def runs_of(self, launch: Launch) -> int:
        """Return how often the work of the launch was begun."""

    async def lose(self, launch: Launch) -> None:
        """Make the back-end lose the running attempt behind the driver's back, so that no exit code is left."""

    def left(self, launch: Launch) -> list[str]:
        """Return what is still outside of the attempt, as words for a person: files, processes, mounts, containers."""

    async def close(self) -> None:
        """Remove all that the test has left."""


class ShellHarness(Harness, Protocol):
    """A harness of a driver with the capability `shell`."""

    def launch_script(
        self,
        script: Script,
        *,
        tree: Tree | None = None,
        variables: Mapping[str, str] | None = None,
        working_directory: str | None = None,
    ) -> Launch:
        """Return a launch of a new job that runs `script`."""


class Keys:
    """Attempt keys that no test shares with another."""

    def __init__(self, directory: Path) -> None:
        self._run_id = f"{abs(hash(directory)):x}"[:12]
        self._numbers = itertools.count(1)

    def next(self) -> AttemptKey:
        """Return a key that was not there before."""
        return AttemptKey(self._run_id, f"Job {next(self._numbers)}/ü", 1)


def script_of(work: Work, *, count: str, gate: str) -> Script:
    """Return `work` as shell lines; `count` is a command that counts the run, `gate` one that succeeds once released."""
    lines = [count]
    if work.ignores_term:
        lines.append("trap '' TERM")
    if work.output:
        octal = "".join(f"\\{byte:03o}" for byte in work.output)
        lines.append(f"printf {shlex.quote(octal)}")
    if work.gated:
        lines.append(f"until {gate}; do sleep 0.02; done")
    lines.append(f"exit {work.exit_code}")
    return Script(tuple(lines))


def job_of(driver: str, key: AttemptKey, script: Script | None, working_directory: str | None = None) -> JobSpec:
    """Return a job for the key's attempt."""
    return JobSpec(key.job, "test", driver, script=script, working_directory=working_directory)
