"""`stretto db`: what it prints, exits with, and never shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stretto.store.migration import read_migrations
from tests.conformance.stores.harness import PostgresHarness
from tests.unit.doors.cli.conftest import Place, Said

NAMES = [step.name for step in read_migrations("postgres")]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """The URL of an empty schema."""
    harness = PostgresHarness(tmp_path)
    yield harness.place
    harness.drop()


def test_db_without_a_database_says_how_to_name_one(stretto: Callable[..., Said]) -> None:
    """Neither option nor setting is bad input."""
    said = stretto("db", "status")
    assert said.code == 2
    assert "STRETTO_DATABASE" in said.err


@pytest.mark.postgres
def test_db_upgrade_and_status(stretto: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    """Status exits with 1 until upgrade was run; the setting is used; the password is nowhere."""
    monkeypatch.setenv("STRETTO_DATABASE", database)
    password = database.split(":")[2].split("@")[0]
    before, upgraded = stretto("db", "status"), stretto("db", "upgrade", "--json")
    again, after = stretto("db", "upgrade"), stretto("db", "status", "--json")
    assert (before.code, upgraded.code, again.code, after.code) == (1, 0, 0, 0)
    assert "run: stretto db upgrade" in before.text
    assert json.loads(upgraded.out)["applied"] == NAMES
    assert "up to date" in again.text
    assert json.loads(after.out)["current"] == json.loads(after.out)["wanted"] == len(NAMES)
    for said in (before, upgraded, again, after):
        assert password not in said.text + said.err


@pytest.mark.postgres
def test_db_copy_takes_a_home(stretto: Callable[..., Said], made: Place, database: str) -> None:
    """The runs of a home are counted and copied; a second time is refused."""
    assert stretto("db", "upgrade", "--database", database, "-q").out == b""
    said = stretto("db", "copy", made.home, "--database", database)
    assert (said.code, said.err) == (0, "")
    assert said.text.startswith("copied ")
    again = stretto("db", "copy", made.home, "--database", database)
    assert again.code == 2
    assert "has runs already" in again.err
