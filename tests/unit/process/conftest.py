"""Each test of processes has names of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.process import Plain, own_registry


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with own_registry():
        yield


@pytest.fixture
def database() -> Plain:
    """An empty database of four methods."""
    return Plain()
