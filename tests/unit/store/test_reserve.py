"""Room that is held back on the disk of the store."""

from __future__ import annotations

from pathlib import Path

from stretto.store.reserve import RESERVE_BYTES, Reserve
from stretto.store.sqlite import SqliteStore


def test_reserve_takes_room_until_it_is_released(tmp_path: Path) -> None:
    """It is held once, by whoever is first, and given back once."""
    reserve, other = Reserve(tmp_path / "a.db"), Reserve(tmp_path / "a.db")
    reserve.hold()
    other.hold()
    [file] = tmp_path.iterdir()
    assert file.stat().st_blocks * 512 >= RESERVE_BYTES
    assert other.release()
    assert not reserve.release()
    assert not list(tmp_path.iterdir())


def test_reserve_without_a_place_is_not_held(tmp_path: Path) -> None:
    """A store that can be opened must not fail for want of a reserve."""
    reserve = Reserve(tmp_path / "none" / "a.db")
    reserve.hold()
    assert not reserve.release()


async def test_store_holds_a_reserve_again_when_it_is_opened(tmp_path: Path) -> None:
    """What was used on a full disk is there for the next time."""
    for _ in range(2):
        store = await SqliteStore.open(tmp_path / "a.db")
        await store.close()
        assert Reserve(tmp_path / "a.db").release()
