"""What the drivers' conformance suite knows of each driver: one harness a module, registered in `HARNESSES`."""

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
