"""`stretto gc`: options and settings arrive at the waist, and what it did is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stretto.doors.cli.main import main
from stretto.settings import Settings
from stretto.waist import Swept


class Sweeper:
    """A waist that only sweeps: notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    @asynccontextmanager
    async def open(self, settings: Settings) -> AsyncIterator[Any]:
        """Stand in for `wiring.open_service`."""
        yield self

    async def gc(self, **asked: Any) -> Swept:
        """Note the question; 3 runs went."""
        self.asked.append(asked)
        return Swept(runs=3, attempts=1, freed_bytes=0 if asked["dry_run"] else 1_234_567)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (None, None)),
        (["--keep-days", "0.5", "--max-size", "1.5G"], (0.5, 3 << 29)),
        (["--max-size", "500m"], (None, 500 << 20)),
        (["--max-size", "12 KiB"], (None, 12 << 10)),
        (["--max-size", "7"], (None, 7)),
        (["--max-size", "0"], (None, 0)),
    ],
    ids=str,
)
def test_gc_hands_on_what_is_given(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], expected: tuple[float | None, int | None]
) -> None:
    """Sizes are powers of 1024; what is not given is for the settings to say, here or at a server."""
    sweeper = Sweeper()
    assert main(["--home", str(tmp_path), "gc", *arguments], opener=sweeper.open) == 0
    assert sweeper.asked == [{"keep_days": expected[0], "max_bytes": expected[1], "dry_run": False}]
    assert capsys.readouterr().out == "deleted 3 runs and 1 abandoned attempt; freed 1.2 MB\n"


def test_gc_dry_run_says_would(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A dry run does not claim to have done anything; --json says which it was."""
    sweeper = Sweeper()
    assert main(["--home", str(tmp_path), "gc", "--dry-run"], opener=sweeper.open) == 0
    assert capsys.readouterr().out == "would delete 3 runs and 1 abandoned attempt\n"
    assert main(["--home", str(tmp_path), "gc", "--dry-run", "--json"], opener=sweeper.open) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": 3, "attempts": 1, "freed_bytes": 0, "dry_run": True}


@pytest.mark.parametrize("size", ["", "-1G", "20Q", "G", "1e3", "1" * 400, "٣G"])
def test_gc_refuses_what_is_no_size(capsys: pytest.CaptureFixture[str], tmp_path: Path, size: str) -> None:
    """A size that can't be read deletes nothing."""
    sweeper = Sweeper()
    assert main(["--home", str(tmp_path), "gc", f"--max-size={size}"], opener=sweeper.open) == 2
    assert sweeper.asked == []
    assert "is not a size" in capsys.readouterr().err


def test_gc_deletes_over_the_real_service(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """In a fresh home there is nothing to do."""
    assert main(["--home", str(tmp_path / "home"), "gc", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 0
