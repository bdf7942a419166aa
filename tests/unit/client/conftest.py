"""What tests of the waist over HTTP share."""

from __future__ import annotations

import pytest

from stretto.client import connection


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are made again at once."""
    monkeypatch.setattr(connection, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(connection, "MAX_WAIT_S", 0.01)
