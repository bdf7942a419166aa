"""What can be set about the driver `process`."""

from __future__ import annotations

from pathlib import Path

from stretto.core.frozen import frozen


@frozen
class ProcessSettings:
    """Settings of one `ProcessDriver`."""

    attempts: Path
    """The directory under which the attempts' directories are, at most three levels down. `orphans` looks there. No default:
    it is a part of the state's home."""

    shell: str = "/bin/sh"
    """The shell that runs the shim and the scripts: a path, of a POSIX shell. `/bin/sh`, because every Linux has it."""

    overlay: bool = True
    """Whether a private tree may be an overlay mount. Yes, because that costs the same for any size of tree; where the system
    refuses one, the tree is copied all the same."""

    log_delay_min_s: float = 0.005
    """Seconds between two looks at the logs that are followed, while any of them grows. 5 ms is below what a person notices."""

    log_delay_max_s: float = 0.1
    """The same while none has grown for some time. 100 ms, so that following idle logs takes under 1 % of a processor."""

    lock_timeout_s: float = 60.0
    """Seconds to wait for another orchestrator that is preparing the same attempt. A minute: it may be copying a large tree."""

    kill_timeout_s: float = 10.0
    """Seconds within which a killed attempt must be gone. Only a process that hangs in the kernel (a dead network file system)
    takes longer than a few milliseconds; then the call fails and may be repeated."""

    lost_after_s: float = 1.0
    """Seconds for which an attempt without a pid must have had no process before it counts as lost. What the kernel needs to
    finish a spawn whose orchestrator was killed in its midst is microseconds; a second leaves room for a machine under load."""
