"""What became of an attempt, read from its directory and its shim's status once the shim is over."""

from __future__ import annotations

import signal
from datetime import datetime
from typing import Final

from stretto.core.events import Outcome
from stretto.core.states import Reason, Status
from stretto.drivers.process.folder import Folder

UNWRITTEN: Final = 121
"""The shim could not write its mark or the exit code."""
NO_PLACE: Final = 122
"""The shim found no working directory."""

SIGNAL_BASE: Final = 128
"""A shell reports 128 + n where signal n ended what it ran (POSIX, Shell Command Language, 2.8.2)."""


def read_outcome(folder: Folder, status: int | None) -> Outcome:
    """Return the outcome; `status` is the shim's own (exit code, or minus a signal), None where it was no child of ours."""
    started_at = folder.started_at
    code = folder.read_exit_code()
    if code is not None:
        ended_at = folder.ended_at
        if code == 0:
            return Outcome(Status.SUCCESS, 0, started_at=started_at, ended_at=ended_at)
        return _failed(Reason.EXIT_CODE, _exit_message(code), started_at, ended_at, exit_code=code)
    if (killed_at := folder.killed_at) is not None:
        return _failed(Reason.KILLED, "killed, as it did not end in time when told to", started_at, killed_at)
    if status == UNWRITTEN:
        return _failed(Reason.DISK_FULL, "the attempt's files could not be written", started_at, None)
    if status == NO_PLACE:
        return _failed(Reason.START_FAILED, "the working directory is gone", started_at, None)
    if status is not None and status < 0:
        return _failed(Reason.KILLED, f"killed from outside by {_name_of(-status)}", started_at, None)
    return _failed(Reason.LOST, "its process is gone and has left no exit code", started_at, None)


def _failed(
    reason: Reason,
    message: str,
    started_at: datetime | None,
    ended_at: datetime | None,
    *,
    exit_code: int | None = None,
) -> Outcome:
    return Outcome(Status.FAILED, exit_code, reason, message, started_at, ended_at)


def _exit_message(code: int) -> str:
    text = f"the script ended with exit code {code}"
    name = _name_of(code - SIGNAL_BASE) if code > SIGNAL_BASE else ""
    return f"{text} ({name})" if name.startswith("SIG") else text


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
