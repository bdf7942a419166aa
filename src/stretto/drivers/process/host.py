"""What the driver asks of the host's kernel: start a shim, tell whether it still is the same, find and signal processes.

The facts about /proc are those of proc(5), about pidfds those of pidfd_open(2) (Linux 5.3 and later).
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from stretto.core.errors import DriverError
from stretto.core.states import Reason
from stretto.drivers.process.environment import MARK
from stretto.drivers.process.folder import Folder, ShimId

SHIM: Final = str(Path(__file__).with_name("shim.sh"))

NULL: Final = "/dev/null"
SETTABLE_SIGNALS: Final = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

PID_FIELD_SESSION: Final = 3
PID_FIELD_START: Final = 19
"""Places in /proc/PID/stat after the command's name: the session is field 6, the start time field 22."""

YOUNG_S: Final = 1.0
"""For so long after its start an attempt's processes have the latest pids: no host gives out all its pids in a second."""

KILL_ROUNDS: Final = 100
"""How often the processes of an attempt are looked for and killed; a script that forks for ever is caught in a few."""


def map_os_error(error: OSError, what: str, *, reason: Reason = Reason.START_FAILED) -> DriverError:
    """Return the error as the driver's own; `what` says what could not be done."""
    if error.errno in FULL:
        return DriverError(
            f"{what}: no room left on the disk", reason=Reason.DISK_FULL, hint="free some space: stretto gc"
        )
    return DriverError(f"{what}: {error.strerror or error}", reason=reason)


def spawn_shim(folder: Folder, place: Path, shell: str, environment: Mapping[str, str]) -> int:
    """Start the attempt's shim in a session of its own and return its pid. DriverError.

    posix_spawn takes a third of the processor time that subprocess takes. It has no working directory to set and closes no
    descriptors; the shim sees to both. Signals that the orchestrator ignores or blocks are set back to what a shell expects.
    """
    argv = [shell, SHIM, str(folder.path), str(place), shell]
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.posix_spawn(
            shell,
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, NULL, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(folder.log), log_flags, 0o600),
                (os.POSIX_SPAWN_OPEN, 2, NULL, os.O_WRONLY, 0),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=SETTABLE_SIGNALS,
        )
    except BlockingIOError as error:
        raise DriverError(
            "can't start a shell: the system allows no further process",
            reason=Reason.START_FAILED,
            hint="raise the limit (ulimit -u) or run fewer jobs at once",
        ) from error
    except OSError as error:
        what = "the job's variables and script" if error.errno == errno.E2BIG else f"the shell {shell}"
        raise map_os_error(error, f"can't start {what}") from error
    except ValueError as error:  # a NUL in a variable
        raise DriverError(f"can't start the script: {error} in a variable", reason=Reason.START_FAILED) from error


@cache
def boot_id() -> str:
    """Return what names the host's present boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> ShimId:
    """Return the identity of a child that was not reaped yet."""
    fields = _stat_of(pid)
    assert fields is not None, f"child {pid} is not in /proc"
    return ShimId(pid, int(fields[PID_FIELD_START]), boot_id())


def open_shim(shim: ShimId) -> int | None:
    """Return a new pidfd of the shim, alive or not yet reaped; None where it is gone, even if its pid has a new owner."""
    if shim.boot != boot_id():
        return None
    try:
        pidfd = os.pidfd_open(shim.pid)
    except ProcessLookupError:
        return None
    fields = _stat_of(shim.pid)  # read after the pidfd was opened, so that it tells whom the pidfd means
    if fields is not None and int(fields[PID_FIELD_START]) == shim.start_ticks:
        return pidfd
    os.close(pidfd)
    return None


def reap(pidfd: int) -> int | None:
    """Return the status of an ended process (the exit code, or minus the signal); None where it is not a child of ours."""
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def signal_attempt(key: str, shim: ShimId | None, number: signal.Signals) -> None:
    """Send the signal to every process of the attempt that is there at this moment."""
    for pid in _pids():
        _send(pid, number, _belongs(key, shim))


def kill_attempt(key: str, shim: ShimId | None) -> None:
    """Kill every process of the attempt, also those that made sessions or daemons of themselves.

    The shim is frozen first and killed last: then it starts nothing more, and its pid, which is the number of the session,
    can't get a new owner meanwhile. A process that both left the session and emptied its environment is not found.
    """
    frozen = open_shim(shim) if shim is not None else None
    mine = _belongs(key, shim if frozen is not None else None)
    try:
        if frozen is not None:
            _signal(frozen, signal.SIGSTOP)
        for _ in range(KILL_ROUNDS):
            pids = _pids() if shim is None else _pids_since(shim)
            found = [pid for pid in pids if _send(pid, signal.SIGKILL, mine)]
            if not found:
                break
        if frozen is not None:
            _signal(frozen, signal.SIGKILL)
    finally:
        if frozen is not None:
            os.close(frozen)


def _belongs(key: str, shim: ShimId | None) -> Callable[[int], bool]:
    """Return what tells of a pid whether it is one of the attempt's; `shim` None where that is gone, and so its session."""
    mark = f"{MARK}={key}\0".encode(errors="surrogateescape")
    session = None if shim is None else str(shim.pid)

    def belongs(pid: int) -> bool:
        try:
            environment = b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # gone, or of another user
            environment = b""
        if b"\0" + mark in environment:
            return True
        if session is None:
            return False
        fields = _stat_of(pid)
        return fields is not None and fields[PID_FIELD_SESSION] == session and fields[0] != "Z"

    return belongs


def _send(pid: int, number: signal.Signals, belongs: Callable[[int], bool]) -> bool:
    """Send the signal if the process belongs to the attempt, and say whether; its pid can't change hands in between."""
    if not belongs(pid):
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return belongs(pid) and _signal(pidfd, number)
    finally:
        os.close(pidfd)


def _signal(pidfd: int, number: signal.Signals) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _pids() -> list[int]:
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def _pids_since(shim: ShimId) -> list[int]:
    """Return the pids that the shim's descendants may have, the shim's own not among them.

    Shortly after its start that is the few that were given out since, which makes the end of a short job cheap.
    """
    first, pids = shim.pid, [pid for pid in _pids() if pid != shim.pid]
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - shim.start_ticks / os.sysconf("SC_CLK_TCK")
    if shim.boot != boot_id() or age_s > YOUNG_S:
        return pids
    latest = int(Path("/proc/loadavg").read_text().split()[4])
    if latest >= first:
        return [pid for pid in pids if first < pid <= latest]
    return [pid for pid in pids if pid > first or pid <= latest]


def _stat_of(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on, None where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].decode().split()
    except OSError:
        return None
