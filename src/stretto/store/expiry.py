"""Deleting runs with everything that belongs to them: what `stretto gc` is made of.

Files go first and the record last, so that a deletion that was cut off can be done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from stretto.core.ports import ArtifactStore, LogStore, RunFilter, RunRow, Store
from stretto.core.states import FINAL

_PAGE: Final = 200


async def expired_runs(store: Store, *, keep: int, ended_before: datetime | None = None) -> list[RunRow]:
    """Return the final runs, newest first, but for the `keep` newest; with `ended_before` only those that ended before."""
    found: list[RunRow] = []
    kept, before = 0, None
    while page := await store.list_runs(RunFilter(statuses=FINAL, before=before, limit=_PAGE)):
        for row in page:
            if kept < keep:
                kept += 1
            elif ended_before is None or (row.ended_at is not None and row.ended_at < ended_before):
                found.append(row)
        before = page[-1].number
    return found


async def delete_runs(store: Store, logs: LogStore, artifacts: ArtifactStore, runs: Sequence[RunRow]) -> int:
    """Delete the final ones of `runs` with their logs and artifacts; return how many bytes of files that freed."""
    freed = 0
    for row in runs:
        if row.status in FINAL:
            freed += await logs.delete(row.id) + await artifacts.delete(row.id)
            await store.delete_runs([row.id])
    return freed
