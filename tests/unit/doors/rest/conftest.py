"""A home with two runs, made once and copied for each test, and the API over it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from stretto.settings import Api, Settings
from stretto.waist import RunRequest
from stretto.wiring import open_service
from tests.support.api import Server, open_api
from tests.support.repository import make_repository

PIPELINE = """\
name: small
stages: [build, test]
jobs:
  build/app:
    stage: build
    script:
      - mkdir -p out
      - echo data > out/plain.txt
      - printf '#!/bin/sh\\n' > out/tool && chmod +x out/tool
      - ln -s plain.txt out/link
      - echo first
      - printf 'no UTF-8 \\377\\000\\nlast without end'
    artifacts: {paths: [out]}
  lint:
    stage: test
    script: exit 7
"""
OUTPUT = b"first\nno UTF-8 \xff\x00\nlast without end"
"""What `build/app` prints."""


@dataclass(frozen=True, slots=True)
class Place:
    """A home with two runs: 1 failed and of `allowed/repo`, 2 the same of `other`; both are under `root`."""

    root: Path
    home: Path
    allowed: Path
    other: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The home and the repositories; nothing may change them."""
    root = tmp_path_factory.mktemp("rest")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        (root / "allowed").mkdir()
        allowed = make_repository(root / "allowed" / "repo", {"pipeline.yml": PIPELINE})
        other = make_repository(root / "other", {"pipeline.yml": PIPELINE})
        settings = replace(Settings(), home=root / "home", driver="process")

        async def run() -> None:
            async with open_service(settings) as service:
                for repository in (allowed, other):
                    (row,) = await service.submit(RunRequest(repository=str(repository), by="ann"))
                    await service.conduct(row.id)

        asyncio.run(run())
    return Place(root, settings.home, allowed, other)


@pytest.fixture
def settings(made: Place, tmp_path: Path) -> Settings:
    """Settings of a home of the test's own, with the runs of the one that was made."""
    shutil.copytree(made.home, tmp_path / "home", symlinks=True)
    api = Api(local_root=str(made.root), max_body_mb=1, rate_per_minute=0)
    return replace(Settings(), home=tmp_path / "home", driver="process", api=api)


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    """The API over that home."""
    async with open_api(settings) as opened:
        yield opened
