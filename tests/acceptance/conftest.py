"""What tests of the real program share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.background import Programs, end_attempts, programs
from tests.support.cluster import Cluster, own_database
from tests.support.images import import_image
from tests.support.server import serving


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home of its own, not made yet. What a test that failed left under way is ended."""
    yield tmp_path / "home"
    end_attempts(tmp_path / "home")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API and a conductor in processes of their own, with PostgreSQL and RabbitMQ between them."""
    with own_database(f"cluster_{os.getpid()}") as database:
        variables = {"STRETTO_DATABASE": database, "STRETTO_QUEUE": os.environ["STRETTO_TEST_RABBITMQ"]}
        cluster = Cluster(tmp_path_factory.mktemp("cluster"), variables, apis=1, conductors=1)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


STATE = "STRETTO_TEST_STATE"
"""The variable that names the home of the server that commands talk to."""
APART = pytest.param("cluster", marks=[pytest.mark.postgres, pytest.mark.rabbitmq])


@pytest.fixture(params=["here", "server", APART])
def anywhere(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The same; and a server that commands talk to: one process whose own home is `tmp_path/server`, or several."""
    if request.param == "here":
        yield home
        return
    if request.param == "cluster":
        cluster: Cluster = request.getfixturevalue("cluster")
        cluster.forget()
        monkeypatch.setenv("STRETTO_SERVER", cluster.url)
        monkeypatch.setenv("STRETTO_TOKEN", cluster.token)
        monkeypatch.setenv(STATE, str(cluster.home))
        yield home
        end_attempts(cluster.home)
        return
    with serving(tmp_path / "server") as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(STATE, str(server.home))
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
