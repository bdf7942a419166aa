"""What the driver asks of the host's kernel: start a shim, tell whether it still is the same, find and signal processes.

The facts about /proc are those of proc(5), about pidfds those of pidfd_open(2) (Linux 5.3 and later).
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from stretto.core.errors import DriverError
from stretto.core.states import Reason
from stretto.drivers.process.environment import MARK
from stretto.drivers.process.folder import Folder

SHIM: Final = str(Path(__file__).with_name("shim.sh"))

NULL: Final = "/dev/null"
SETTABLE_SIGNALS: Final = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

YOUNG_S: Final = 1.0
"""For so long after its start an attempt's processes have the latest pids: no host gives out all its pids in a second."""

FEW_PIDS: Final = 100
"""So many pids are tried out; for more it is quicker to list the processes there are, of which a quiet host has some hundred."""

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
    argv = [shell, SHIM, folder.path, str(place), shell]
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.posix_spawn(
            shell,
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, NULL, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, folder.log, log_flags, 0o600),
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


def open_marked(key: str, pid: int) -> int | None:
    """Return a new pidfd of the process if it bears the attempt's mark, None where it is gone.

    The mark makes sure that the pid has no new owner; only descendants of the shim bear it as well.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    if _bears(_mark(key), pid):  # read after the pidfd was opened, so that it tells whom the pidfd means
        return pidfd
    os.close(pidfd)
    return None


def is_marked_anywhere(key: str) -> bool:
    """Say whether any process of the attempt is there."""
    mark = _mark(key)
    return any(_bears(mark, pid) for pid in _pids())


def reap(pidfd: int) -> int | None:
    """Return the status of an ended process (the exit code, or minus the signal); None where it is not a child of ours."""
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def signal_attempt(key: str, shim: int | None, number: signal.Signals) -> None:
    """Send the signal to every process of the attempt that is there at this moment; `shim` is its living shim's pid."""
    belongs = _belongs(key, shim)
    for pid in _pids():
        _send(pid, number, belongs)


def is_young(age_s: float | None) -> bool:
    """Say whether an attempt of this age (None: not known) has but pids that were given out lately."""
    return age_s is not None and 0 <= age_s < YOUNG_S


def kill_attempt(key: str, shim: int | None, *, age_s: float | None) -> None:
    """Kill every process of the attempt, also those that made sessions or daemons of themselves.

    The shim is frozen first and killed last: then it starts nothing more, and its pid, which is the number of the session,
    can't get a new owner meanwhile. A process that both left the session and emptied its environment is not found.
    `age_s` is for how long the attempt has been there, None where that is not known.
    """
    frozen = open_marked(key, shim) if shim is not None else None
    belongs = _belongs(key, shim if frozen is not None else None)
    try:
        if frozen is not None:
            _signal(frozen, signal.SIGSTOP)
        for _ in range(KILL_ROUNDS):
            pids: Sequence[int] = _pids() if shim is None else _pids_besides(shim, age_s)
            if not [pid for pid in pids if _send(pid, signal.SIGKILL, belongs)]:
                break
        if frozen is not None:
            _signal(frozen, signal.SIGKILL)
    finally:
        if frozen is not None:
            os.close(frozen)


def _mark(key: str) -> bytes:
    return f"\0{MARK}={key}\0".encode(errors="surrogateescape")


def _bears(mark: bytes, pid: int) -> bool:
    """Say whether the process was started with this mark in its environment."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123 - called for many processes
            return mark in b"\0" + file.read()
    except OSError:  # gone, or of another user
        return False


def _belongs(key: str, session: int | None) -> Callable[[int], bool]:
    """Return what tells of a pid whether it is one of the attempt's; `session` is its session's number while that is its own."""
    mark = _mark(key)

    def belongs(pid: int) -> bool:
        return _bears(mark, pid) or (session is not None and _is_in(session, pid))

    return belongs


def _is_in(session: int, pid: int) -> bool:
    """Say whether the process lives and is one of the session."""
    try:
        if os.getsid(pid) != session:  # a call of 1 µs that spares most processes the look into /proc, of 30
            return False
        return not Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].startswith(b"Z")
    except OSError:
        return False


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


def _pids_besides(shim: int, age_s: float | None) -> Sequence[int]:
    """Return the pids that the shim's descendants may have: the few given out since, if it is young, or else all others."""
    if not is_young(age_s):
        return [pid for pid in _pids() if pid != shim]
    latest = int(Path("/proc/loadavg").read_text().split()[4])
    if shim <= latest <= shim + FEW_PIDS:
        return range(shim + 1, latest + 1)
    pids = _pids()
    if latest >= shim:
        return [pid for pid in pids if shim < pid <= latest]
    return [pid for pid in pids if pid > shim or pid <= latest]
