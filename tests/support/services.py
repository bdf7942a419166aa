"""A pytest plugin: tests marked with a service are skipped where the service is missing, or fail where it is required.

`STRETTO_REQUIRE` names the services that must be there, as in `STRETTO_REQUIRE="docker root browser"`: a marked test of such a
service then fails instead of being skipped, for whatever reason it asked to be.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator
from functools import cache

import pytest

from scripts import engine
from scripts.service import postgres, rabbitmq


@cache
def find_docker() -> str | None:
    """Return the address of the Docker engine that answers."""
    return engine.find()


@cache
def find_postgres() -> str | None:
    """Return the URL of the PostgreSQL database for tests, if it answers."""
    address = os.environ.get("STRETTO_TEST_POSTGRES", "")
    return address if address and postgres.greets(address) else None


@cache
def find_rabbitmq() -> str | None:
    """Return the URL of the RabbitMQ node for tests, if it answers."""
    address = os.environ.get("STRETTO_TEST_RABBITMQ", "")
    return address if address and rabbitmq.greets(address) else None


SERVICES: dict[str, tuple[Callable[[], object], str]] = {
    "docker": (find_docker, "no Docker engine answers (scripts/services up docker)"),
    "root": (lambda: os.geteuid() == 0, "not root"),
    "postgres": (find_postgres, "STRETTO_TEST_POSTGRES leads to no PostgreSQL (scripts/services up postgres)"),
    "rabbitmq": (find_rabbitmq, "STRETTO_TEST_RABBITMQ leads to no RabbitMQ (scripts/services up rabbitmq)"),
    "browser": (lambda: shutil.which("chromium"), "no chromium"),
    "compose": (lambda: shutil.which("docker-compose"), "no docker-compose (scripts/services up compose)"),
    "systemd": (lambda: shutil.which("systemd-analyze"), "no systemd-analyze (scripts/services up systemd)"),
}
"""Marker -> how to find the service, and what to say where it is missing."""


def required() -> set[str]:
    """Return the services that must be there."""
    names = set(os.environ.get("STRETTO_REQUIRE", "").split())
    if unknown := names - set(SERVICES):
        raise pytest.UsageError(f"STRETTO_REQUIRE names {', '.join(sorted(unknown))}; known: {', '.join(SERVICES)}")
    return names


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a wrong STRETTO_REQUIRE before anything runs."""
    required()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose service is missing."""
    for name, (find, complaint) in SERVICES.items():
        if item.get_closest_marker(name) and not find():
            pytest.skip(complaint)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a failure of a skip where a service of the test is required."""
    report = yield
    names = sorted(name for name in required() if item.get_closest_marker(name))
    if report.skipped and names and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"STRETTO_REQUIRE={' '.join(names)}, but the test was skipped: {reason}"
    return report
