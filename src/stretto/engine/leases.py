"""Owning runs: a lease that is renewed while its holder lives, and what the holder does when it can't renew it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stretto.core.errors import FenceLostError, StoreError
from stretto.core.ports import Store

log = logging.getLogger(__name__)

LEASE_S = 15.0
"""How long a silent owner on another host keeps its runs; one that died on this host is recognised at once."""
RENEWALS_A_LEASE = 3
"""Two renewals in a row may fail before the lease is in danger."""


@asynccontextmanager
async def lease(store: Store, owner: str, *, lease_s: float = LEASE_S) -> AsyncIterator[None]:
    """Hold the owner's lease while the body runs; the body ends with FenceLostError if it can't be renewed in time."""
    await store.keep_lease(owner, lease_s)
    try:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(_keep(store, owner, lease_s), name="keep lease")
            try:
                yield
            finally:
                keeper.cancel()
    except* StoreError as errors:
        raise errors.exceptions[0] from None


async def _keep(store: Store, owner: str, lease_s: float) -> None:
    clock = asyncio.get_running_loop()
    good_until = clock.time() + lease_s
    while True:
        await asyncio.sleep(lease_s / RENEWALS_A_LEASE)
        asked_at = clock.time()
        try:
            async with asyncio.timeout(lease_s / RENEWALS_A_LEASE):
                await store.keep_lease(owner, lease_s)
            good_until = asked_at + lease_s
        except (StoreError, TimeoutError) as error:
            log.warning("lease not renewed", extra={"owner": owner, "error": str(error)})
            if clock.time() + lease_s / RENEWALS_A_LEASE >= good_until:
                raise FenceLostError(
                    f"the lease of {owner} could not be renewed in time; another may own its runs"
                ) from error
