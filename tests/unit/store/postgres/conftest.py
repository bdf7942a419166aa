"""A schema of its own for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.stores.harness import PostgresHarness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[PostgresHarness]:
    """An empty schema."""
    harness = PostgresHarness(tmp_path)
    yield harness
    harness.drop()
