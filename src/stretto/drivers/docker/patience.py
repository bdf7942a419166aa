"""How long an engine may be away before whoever watches an attempt gives up."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from stretto.core.errors import EngineUnavailableError

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
"""An engine that came back is noticed this late at most."""


class Patience:
    """Spaces out the tries to reach the engine; ends them `limit_s` after the last time it was heard of."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since: float | None = None
        self._pause_s = FIRST_PAUSE_S

    def heard(self) -> None:
        """Note that the engine answered."""
        self._since = None
        self._pause_s = FIRST_PAUSE_S

    async def pause(self, error: EngineUnavailableError) -> None:
        """Come back when it is time for another try; raise `error` when there has been enough of them."""
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
            log.warning("the engine does not answer; trying again", extra={"error": error.message})
        left = self._since + self._limit_s - now
        if left <= 0:
            raise error
        await asyncio.sleep(min(self._pause_s, left))
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
