"""What a person may choose about the driver `docker`. Each field says its unit, its default and why that is the default."""

from __future__ import annotations

from typing import Literal

from stretto.core.frozen import frozen

PullPolicy = Literal["missing", "always", "never"]

GIB = 1024**3


@frozen
class DockerSettings:
    """How containers are made and the engine is reached."""

    host: str | None = None
    """Address of the engine: `unix://`, `tcp://` or `ssh://`. None: `DOCKER_HOST`, else the socket of this host, as users of the
    engine's own tools expect."""

    memory_bytes: int | None = 4 * GIB
    """Memory a job may use, in bytes, swap included. 4 GiB: a job that runs wild is stopped, not the laptop. None: no limit."""

    cpus: float | None = None
    """Processors a job may use at once. None: no limit; jobs then share what there is, and none idles while another waits."""

    pids_limit: int | None = 4096
    """Processes and threads a job may have. 4096: ample for parallel builds, and a fork bomb ends. None: no limit."""

    pull: PullPolicy = "missing"
    """When an image is pulled: `missing` (not on the engine yet, the least traffic), `always` or `never`."""

    user: str | None = None
    """User (`name`, `uid` or `user:group`) of jobs that name none. None: the image's own, which images are tested with."""

    network: str = "bridge"
    """Network mode: `bridge` (each job its own ports and loopback), `none`, `host` or a network's name."""

    read_only: bool = False
    """Whether all but the tree and `/tmp` is read-only. False: scripts install packages."""

    log_driver: str = "local"
    """The engine's log driver, read when an attempt is adopted. `local` keeps bytes as they are; `json-file` replaces those
    that are no UTF-8. Rotation is always off."""

    start_concurrency: int = 4
    """Containers started at once. 4: on two processors 20 jobs took 4.8 s with 2, 3.9 s with 4, and no less with 6 or 8, where
    each start only takes longer."""

    connect_timeout_s: float = 10.0
    """Seconds until a connection must stand. 10: an ssh login to a far host takes some."""

    request_timeout_s: float = 120.0
    """Seconds until a request that doesn't stream must be answered. 120: an engine under load takes its time over a start."""

    pull_timeout_s: float = 1800.0
    """Seconds a pull may take. 1800: large images over slow lines come through, and none hangs for ever."""

    reconnect_s: float = 30.0
    """Seconds for which a watched attempt's engine may be away. 30: the engine's own restart takes less."""
