"""Owning runs: a lease that is renewed while its holder lives, and what the holder does when it can't renew it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stretto.core.errors import FenceLostError, StoreError, StrettoError
from stretto.core.ports import Store

log = logging.getLogger(__name__)

LEASE_S = 15.0
"""How long a silent owner on another host keeps its runs; one that died on this host is recognised at once."""
RENEWALS_A_LEASE = 3
"""Two renewals in a row may fail before the lease is in danger."""


class Lease:
    """The owner's right to act, as far as this process can tell by its own clock."""

    def __init__(self, owner: str, lease_s: float, place: str = "") -> None:
        self.owner = owner
        self.lease_s = lease_s
        self.place = place
        self._good_until = 0.0

    def held(self) -> bool:
        """Say whether the lease is certainly good still."""
        return asyncio.get_running_loop().time() < self._good_until

    def renewed(self, asked_at: float) -> None:
        """Take note of a renewal that was asked for at `asked_at`, by the loop's clock."""
        self._good_until = asked_at + self.lease_s


@asynccontextmanager
async def hold(store: Store, owner: str, *, lease_s: float = LEASE_S, place: str = "") -> AsyncIterator[Lease]:
    """Hold the owner's lease while the body runs; the body ends with FenceLostError if it can't be renewed in time.

    `place` names the back-ends that the owner reaches.
    """
    lease = Lease(owner, lease_s, place)
    asked_at = asyncio.get_running_loop().time()
    await store.keep_lease(owner, lease_s, place)
    lease.renewed(asked_at)
    try:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(_keep(store, lease), name="keep lease")
            try:
                yield lease
            finally:
                keeper.cancel()
    except* StrettoError as errors:
        raise errors.exceptions[0] from None


async def _keep(store: Store, lease: Lease) -> None:
    pause_s = lease.lease_s / RENEWALS_A_LEASE
    while True:
        await asyncio.sleep(pause_s)
        asked_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(pause_s):
                await store.keep_lease(lease.owner, lease.lease_s, lease.place)
            lease.renewed(asked_at)
        except (StoreError, TimeoutError) as error:
            log.warning("lease not renewed", extra={"owner": lease.owner, "error": str(error)})
            if not lease.held():
                message = f"the lease of {lease.owner} could not be renewed in time; another may own its runs"
                raise FenceLostError(message) from error
