"""The drivers there are, by the name that specs and settings use. An explicit table; nothing registers itself.

A driver's module is named, not imported: the docker driver's client need not be loaded for a run of processes.
"""

from __future__ import annotations

from typing import Final

DRIVERS: Final[dict[str, str]] = {
    "docker": "stretto.drivers.docker.driver",
    "process": "stretto.drivers.process.driver",
}
"""Driver name to the module of its class."""
