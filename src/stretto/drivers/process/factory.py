"""Makes the driver from the settings tree."""

from __future__ import annotations

from pathlib import Path

from stretto.drivers.process.driver import ProcessDriver
from stretto.drivers.process.settings import ProcessSettings
from stretto.settings import Settings


def make(settings: Settings, *, home: Path, installation: str) -> ProcessDriver:
    """Return the driver for the state under `home`, which is all that tells installations apart here."""
    return ProcessDriver(ProcessSettings(attempts=home / "attempts"))
