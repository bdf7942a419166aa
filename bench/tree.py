"""A job's private tree: made and removed for a large and for a small checkout."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from pathlib import Path

from bench.measure import interleave
from bench.row import Row
from stretto.core.ports import Tree
from stretto.sources.workspace import open_view, remove_view

ROUNDS = 15
FEW, MANY = 10, 10_000
FILES_A_FOLDER = 100


def rows() -> list[Row]:
    """Compare the trees; where overlays don't serve the ratio says what a copy costs."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        checkouts = {count: _make_checkout(directory / f"checkout-{count}", count) for count in (FEW, MANY)}
        numbers = itertools.count()

        async def make(count: int) -> None:
            place = directory / f"view-{next(numbers)}"
            view = await open_view(Tree((checkouts[count],)), place)
            (view.path / "new").touch()
            await remove_view(place)

        times = interleave(
            {"few": lambda: asyncio.run(make(FEW)), "many": lambda: asyncio.run(make(MANY))}, rounds=ROUNDS
        )
    return [Row(f"private tree of {MANY:,} files", f"the same of {FEW}", times["few"], times["many"], times=1.2)]


def _make_checkout(path: Path, count: int) -> Path:
    for number in range(count):
        folder = path / f"{number // FILES_A_FOLDER:04}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:06}.txt").write_text(f"file {number}\n")
    return path
