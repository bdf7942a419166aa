"""The real `stretto` program as a subprocess, with a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("stretto")


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended; `out` and `err` are what it printed."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        """What it printed, which must be one JSON object and nothing else."""
        try:
            data = json.loads(self.out)
        except ValueError as error:
            raise AssertionError(f"not JSON: {self.out!r}; stderr: {self.err}") from error
        assert isinstance(data, dict)
        return data


def environment(home: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment a command gets: this one, `home` as its state, no colours."""
    return {**os.environ, "STRETTO_HOME": str(home), "NO_COLOR": "1", **(variables or {})}


def run_cli(
    arguments: Sequence[str | Path],
    cwd: Path,
    home: Path,
    *,
    variables: Mapping[str, str] | None = None,
    timeout_s: float = 100.0,
) -> Result:
    """Run `stretto ARGUMENTS` in `cwd` until it ends."""
    done = subprocess.run(
        [PROGRAM, *arguments],
        cwd=cwd,
        env=environment(home, variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def jobs_of(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the jobs of a report by name."""
    return {job["name"]: job for stage in report["stages"] for job in stage["jobs"]}
