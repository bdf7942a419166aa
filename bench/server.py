"""A server over PostgreSQL: requests, many runs, an idle start, memory; each against what the database alone takes.

Needs the PostgreSQL of `scripts/services up`. Everything happens in databases that are made for it and dropped again.
"""

from __future__ import annotations

from bench import accept, begin, fleet, footprint
from bench.cluster import SLOW_SYNC_US
from bench.row import Row

ON_A_SLOW_DISK = f", where a sync takes {SLOW_SYNC_US / 1000:g} ms"


def rows() -> list[Row]:
    """Measure all; RuntimeError where there is no PostgreSQL."""
    return [
        accept.row(),
        accept.row(sync_us=SLOW_SYNC_US, told=ON_A_SLOW_DISK),
        fleet.row(),
        fleet.row(sync_us=SLOW_SYNC_US, told=ON_A_SLOW_DISK),
        begin.row(),
        *footprint.measure(),
    ]
