"""Makes the driver from the settings tree."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from stretto.drivers.docker.driver import DockerDriver
from stretto.drivers.docker.settings import DockerSettings, PullPolicy
from stretto.settings import Settings

MIB = 1024 * 1024


def make(settings: Settings, *, home: Path, installation: str) -> DockerDriver:
    """Return the driver for the engine that the settings name; nothing is asked of it yet."""
    docker = settings.docker
    return DockerDriver(
        DockerSettings(
            host=docker.host or None,
            memory_bytes=docker.memory_mb * MIB or None,
            cpus=docker.cpus or None,
            pids_limit=docker.pids,
            pull=cast(PullPolicy, docker.pull),
            user=docker.user or None,
            network=docker.network,
        ),
        installation=installation,
    )
