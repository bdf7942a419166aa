"""What Prometheus reads: requests as they go by, and counts of runs taken from the store when it asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)

from stretto import __version__
from stretto.core.ports import Tables
from stretto.core.states import Status

KEEP_S: Final = 5.0
"""How long counts of runs are told again without counting: whoever scrapes often must not cost the store anything."""
_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Slots = Callable[[], Mapping[str, tuple[int, int]]]
"""Gives, for each driver, how many slots are used and how many there are on this conductor."""


class Metrics:
    """The measures of one process."""

    def __init__(self, *, slots: Slots = dict) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a line more for each that nobody reads
        self.registry = CollectorRegistry()
        self._slots = slots
        self._counted_s = -KEEP_S
        registry = self.registry
        self.requests = Counter(
            "stretto_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "stretto_http_request_seconds",
            "Time until the answer begins.",
            ["route"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.open = Gauge("stretto_http_open_requests", "Requests being answered.", registry=registry)
        self._runs = Gauge("stretto_runs", "Runs in the store.", ["status"], registry=registry)
        self._undefined = Gauge("stretto_queue_depth", "Runs accepted and not yet compiled.", registry=registry)
        self._used = Gauge(
            "stretto_slots_used", "Slots of this conductor that are in use.", ["driver"], registry=registry
        )
        self._free = Gauge(
            "stretto_slots_free", "Slots of this conductor that are free.", ["driver"], registry=registry
        )
        Info("stretto_build", "Which Stretto this is.", registry=registry).info({"version": __version__})

    async def text(self, tables: Tables) -> bytes:
        """Return the measures in the format of Prometheus."""
        if time.monotonic() - self._counted_s >= KEEP_S:
            counts = dict(await tables.read("SELECT status, COUNT(*) FROM run GROUP BY status"))
            for status in Status:
                self._runs.labels(status.value).set(counts.get(status.value, 0))
            self._undefined.set((await tables.read("SELECT COUNT(*) FROM submission"))[0][0])
            self._counted_s = time.monotonic()
        for driver, (used, total) in self._slots().items():
            self._used.labels(driver).set(used)
            self._free.labels(driver).set(max(0, total - used))
        return generate_latest(self.registry)
