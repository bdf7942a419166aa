"""What a person waits for before anything happens: the program's start, and a file checked."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench.measure import interleave, run
from bench.project import Project, parallel
from bench.row import Row

ROUNDS = 15
JOBS = 30


def rows() -> list[Row]:
    """Measure `stretto --version` and `stretto check` as whole processes."""
    with tempfile.TemporaryDirectory() as directory:
        project = Project(Path(directory), parallel(JOBS))
        times = interleave(
            {
                "floor": lambda: run([sys.executable, "-c", "pass"], cwd=project.path),
                "version": lambda: project.stretto("--version"),
                "check": lambda: project.stretto("check"),
            },
            rounds=ROUNDS,
        )
    floor_is = "`python -c pass`"
    return [
        Row("`stretto --version`", floor_is, times["floor"], times["version"], plus=0.060),
        Row(f"`stretto check` of {JOBS} jobs", floor_is, times["floor"], times["check"], plus=0.150),
    ]
