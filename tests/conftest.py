"""For all tests: services by marker, and an environment that no setting of the person who runs them leaks into."""

from __future__ import annotations

import os

import pytest

pytest_plugins = ["tests.support.services"]

KEPT = {"STRETTO_REQUIRE", "STRETTO_SIM_HISTORIES", "STRETTO_TEST_POSTGRES", "STRETTO_TEST_RABBITMQ"}
"""What speaks to the tests themselves."""


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what would change how Stretto or git behave."""
    for name in os.environ:
        if name.startswith(("STRETTO_", "GIT_")) and name not in KEPT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
