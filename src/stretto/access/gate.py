"""The gate of a server: register, audit log and limits together, with the loop that writes down what can wait."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from stretto.access.audit import Audit
from stretto.access.limit import Limit
from stretto.access.register import Register
from stretto.core.errors import StoreError
from stretto.core.ports import Tables

log = logging.getLogger(__name__)

FLUSH_S: Final = 0.2
LAST_FLUSH_S: Final = 5.0
"""How long the end of a server waits for its audit log."""
FAILED_LOGINS_A_MINUTE: Final = 20
"""Of one address; then it is told to wait, and the audit log is spared. A valid token opens all the same."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What a door needs to let somebody in. `requests` counts by token, `failures` by address."""

    register: Register
    audit: Audit
    requests: Limit
    failures: Limit
    now: Callable[[], datetime]


def _utc_now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def open_gate(
    tables: Tables,
    *,
    rate_per_minute: int,
    failures_per_minute: int = FAILED_LOGINS_A_MINUTE,
    now: Callable[[], datetime] = _utc_now,
    now_s: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Gate]:
    """Give the gate over a store's tables; what is still to be written at the end is."""
    gate = Gate(
        Register(tables, now),
        Audit(tables),
        Limit(rate_per_minute, now_s),
        Limit(failures_per_minute, now_s),
        now,
    )
    writing = asyncio.create_task(_write(gate), name="write audit log")
    try:
        yield gate
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        try:
            await asyncio.wait_for(_flush(gate), LAST_FLUSH_S)
        except (StoreError, TimeoutError) as error:
            log.error("the end of the audit log is lost", extra={"error": str(error)})


async def _write(gate: Gate) -> None:
    """Write down what was noted, again and again; a store that is away is waited for."""
    while True:
        await asyncio.sleep(FLUSH_S)
        try:
            await _flush(gate)
        except StoreError as error:
            log.warning("audit log waits for the store", extra={"error": error.message})


async def _flush(gate: Gate) -> None:
    await gate.audit.flush()
    await gate.register.note_use()
