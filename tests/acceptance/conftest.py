"""What tests of the real program share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.background import Programs, end_attempts, programs
from tests.support.images import import_image
from tests.support.server import serving


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home of its own, not made yet. What a test that failed left under way is ended."""
    yield tmp_path / "home"
    end_attempts(tmp_path / "home")


@pytest.fixture(params=["here", "server"])
def anywhere(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The same; and, half of the time, a server that commands talk to, whose own home is `tmp_path/server`."""
    if request.param == "here":
        yield home
        return
    with serving(tmp_path / "server") as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        yield home
    end_attempts(tmp_path / "server")


@pytest.fixture
def background() -> Iterator[Programs]:
    """Programs that run beside the test and end with it."""
    with programs() as begun:
        yield begun


@pytest.fixture(scope="session")
def image() -> str:
    """An image of BusyBox on the engine that tests share."""
    return import_image("stretto-acceptance:1")
