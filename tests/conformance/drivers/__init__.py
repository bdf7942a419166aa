"""What the drivers' conformance suite knows of each driver: one harness a module, registered in `HARNESSES`."""

import pytest
from _pytest.mark import ParameterSet

from tests.conformance.drivers.docker import DockerHarness
from tests.conformance.drivers.fake import FakeHarness
from tests.conformance.drivers.harness import Harness
from tests.conformance.drivers.process import ProcessHarness

HARNESSES: dict[str, type[Harness]] = {
    "docker": DockerHarness,
    "fake": FakeHarness,
    "process": ProcessHarness,
}
"""Every driver that is under test, by name."""

SERVICES: dict[str, str] = {"docker": "docker"}
"""Harness -> the service that it needs, by its marker."""


def harnesses_with(*capabilities: str) -> list[ParameterSet]:
    """Return the parameters of a fixture, one for each harness that has all of these, marked with the service it needs."""
    return [
        pytest.param(name, marks=[getattr(pytest.mark, SERVICES[name])] if name in SERVICES else [])
        for name, harness in HARNESSES.items()
        if set(capabilities) <= harness.capabilities
    ]
