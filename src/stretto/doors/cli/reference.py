"""Which run a person means: a number, an id, or `latest`."""

from __future__ import annotations

from typing import Final

from stretto.core.errors import NotFoundError
from stretto.core.ports import RunFilter
from stretto.waist import Waist

LATEST: Final = "latest"


async def resolve_run(waist: Waist, reference: str) -> str:
    """Return a reference that the waist knows; NotFoundError for `latest` where there is no run at all."""
    if reference != LATEST:
        return reference
    rows = await waist.list_runs(RunFilter(limit=1))
    if not rows:
        raise NotFoundError("there are no runs yet", hint="start one with `stretto run`")
    return rows[0].id
