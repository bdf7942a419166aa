"""A home with real runs of a small pipeline, made once: jobs are processes, their output and names are hostile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from stretto.doors.cli.main import main
from stretto.settings import Settings
from stretto.waist import RunRequest
from stretto.wiring import open_service
from tests.support.repository import make_repository

PIPELINE = """\
name: small
stages: [build, test, report]
jobs:
  compile:
    stage: build
    script:
      - mkdir -p out
      - echo data > out/plain.txt
      - printf '#!/bin/sh\\n' > out/tool && chmod +x out/tool
      - ln -s plain.txt out/inside
      - ln -s ../../../etc/passwd out/outside
      - echo first
      - printf 'no UTF-8 \\377\\000\\033[31m red\\r\\n'
      - printf 'last without end'
    artifacts: {paths: [out]}
  lint:
    stage: test
    allow_failure: true
    script: exit 7
  publish:
    stage: report
    needs: [lint]
    script: echo never
  alarm:
    stage: report
    when: on_failure
    retry: 2
    timeout: 5m
    script: echo alarm
"""
OUTPUT = b"first\nno UTF-8 \xff\x00\x1b[31m red\r\nlast without end"
"""What `compile` prints."""
MESSAGE = "Add \x1b[31mred\x1b[0m and \u202eturned"

SOLO = """\
name: solo
jobs:
  only:
    stage: test
    script: echo alone
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A home with two runs: 1 of `small` (repository), 2 of `solo` (its file solo.yml)."""

    home: Path
    repository: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The home and repository; nothing may change them."""
    root = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        repository = make_repository(root / "repo", {"pipeline.yml": PIPELINE, "solo.yml": SOLO}, message=MESSAGE)
        settings = replace(Settings(), home=root / "home", driver="process")

        async def run() -> None:
            async with open_service(settings) as service:
                for file in ("pipeline.yml", "solo.yml"):
                    (row,) = await service.submit(RunRequest(directory=repository, file=file, by="ann@host"))
                    await service.conduct(row.id)

        asyncio.run(run())
    return Place(settings.home, repository)


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended and what it printed."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """What it printed, as text."""
        return self.out.decode()


@pytest.fixture
def stretto(
    made: Place, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., Said]:
    """Run a command in this process, in the repository, with the home that was made."""
    monkeypatch.setenv("STRETTO_HOME", str(made.home))
    monkeypatch.setenv("STRETTO_DRIVER", "process")
    monkeypatch.chdir(made.repository)

    def run(*arguments: str | Path) -> Said:
        code = main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return Said(code, out, err.decode())

    return run
