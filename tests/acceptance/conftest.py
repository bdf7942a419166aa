"""What tests of the real program share."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.background import Programs, programs
from tests.support.images import import_image


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home of its own, not made yet. What a test that failed left under way is ended."""
    yield tmp_path / "home"
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{tmp_path}/home/attempts/".encode() in command.read_bytes():
                os.kill(int(command.parent.name), signal.SIGKILL)
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if (mount := line.split(" ")[1]).startswith(f"{tmp_path}/home/"):
            subprocess.run(["umount", "-l", mount], check=False, timeout=10)


@pytest.fixture
def background() -> Iterator[Programs]:
    """Programs that run beside the test and end with it."""
    with programs() as begun:
        yield begun


@pytest.fixture(scope="session")
def image() -> str:
    """An image of BusyBox on the engine that tests share."""
    return import_image("stretto-acceptance:1")
