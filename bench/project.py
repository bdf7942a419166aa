"""Repositories with a pipeline of no-op jobs, and the program to run them."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.measure import run
from tests.support.repository import make_repository

PROGRAM = Path(sys.executable).with_name("stretto")


class Project:
    """A repository with this `pipeline.yml`, and a home for Stretto's state that its runs share, as a user's do."""

    def __init__(self, directory: Path, pipeline: str) -> None:
        self.path = make_repository(directory / "repository", {"pipeline.yml": pipeline})
        self.home = directory / "home"

    def stretto(self, *arguments: str) -> None:
        """Run the program in the repository; it must succeed."""
        run([PROGRAM, *arguments], cwd=self.path, variables={"STRETTO_HOME": str(self.home)})


def parallel(count: int, image: str = "none") -> str:
    """Return a pipeline of `count` jobs that wait for nothing."""
    return _pipeline(image, [f"  job-{i}: {{stage: build, script: ':'}}" for i in range(count)])


def chain(count: int, image: str = "none") -> str:
    """Return a pipeline of `count` jobs each of which needs the one before."""
    jobs = ["  job-0: {stage: build, script: ':'}"]
    jobs += [f"  job-{i}: {{stage: build, script: ':', needs: [job-{i - 1}]}}" for i in range(1, count)]
    return _pipeline(image, jobs)


def _pipeline(image: str, jobs: list[str]) -> str:
    return "\n".join(["name: bench", f"default: {{image: {image}}}", "jobs:", *jobs, ""])
