"""What the suites of drivers share; each says itself on which harnesses it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stretto.core.ports import Driver
from tests.conformance.drivers.harness import Harness


@pytest.fixture
async def driver(harness: Harness) -> AsyncIterator[Driver]:
    """A driver over the back-end."""
    driver = harness.driver()
    yield driver
    await driver.close()
