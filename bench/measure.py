"""How the benches measure: medians of several rounds, in each of which every subject has its turn.

The machine is shared and its speed drifts; a floor that is measured right beside its subject drifts with it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

COMMAND_TIMEOUT_S = 300.0


def interleave(subjects: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Run all subjects in turn, once to warm up and then `rounds` times; return each one's median time in seconds."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        for name, subject in subjects.items():
            start = time.perf_counter()
            subject()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def run(command: Sequence[str | Path], *, cwd: Path, variables: Mapping[str, str] | None = None) -> None:
    """Run a command to its end; CalledProcessError, with what it said, unless it ended with 0.

    Its Python may keep byte code, as on a user's machine.
    """
    environment = {**os.environ, **(variables or {})}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr.decode()[-2000:]}"
        )
