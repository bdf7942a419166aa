"""Which process a conductor is, and whether such a process is still alive, as far as this host can tell.

A lease alone makes everybody wait for it to run out after a `kill -9`. On the host of the dead conductor the kernel knows better.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from stretto.core.frozen import frozen

_PROC = Path("/proc")
_DEAD_STATES = frozenset({"Z", "X", "x"})
"""proc(5), /proc/pid/stat field 3: a zombie still has a pid, but will never write again."""


@frozen
class Process:
    """A process, for ever: `realm` (boot and PID namespace) says where `pid` means something, `start` that it is not a later one.

    `start` is in clock ticks since boot.
    """

    host: str
    realm: str
    pid: int
    start: int


def this_process() -> Process:
    """Return the process that asks."""
    pid = os.getpid()
    state = _stat(pid)
    return Process(platform.node(), _realm(), pid, state[1] if state else 0)


def is_known_dead(process: Process) -> bool:
    """Say whether the process is certainly over; False where this host can't know."""
    if process.realm != _realm():
        return False
    state = _stat(process.pid)
    return state is None or state[0] in _DEAD_STATES or state[1] != process.start


def _realm() -> str:
    boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    # containers on one host share the boot id, yet pid 1 of one is not pid 1 of the other
    return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"


def _stat(pid: int) -> tuple[str, int] | None:
    """Return state and start time (fields 3 and 22 of /proc/pid/stat), None where there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # field 2, the program's name, may hold blanks and parentheses
    return fields[0], int(fields[19])
