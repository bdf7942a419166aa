"""Durations, sizes, counts, times and commands as people read them."""

from __future__ import annotations

import shlex
from datetime import datetime, tzinfo

NOTHING = "-"
SHORT_COMMIT = 10
"""How much of a commit's hash is shown."""


def duration(seconds: float | None) -> str:
    """Return a duration such as `0.42 s`, `1.2 s`, `3 m 05 s`, `2 h 03 m` or `3 d 04 h`; `-` for None."""
    if seconds is None:
        return NOTHING
    if round(seconds, 2) < 1:
        return f"{seconds:.2f} s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    if (whole_s := round(seconds)) < 3600:
        return f"{whole_s // 60} m {whole_s % 60:02} s"
    if (whole_m := round(seconds / 60)) < 24 * 60:
        return f"{whole_m // 60} h {whole_m % 60:02} m"
    whole_h = round(seconds / 3600)
    return f"{whole_h // 24} d {whole_h % 24:02} h"


def size(size_bytes: int) -> str:
    """Return a size such as `512 B`, `1.2 kB` or `3.4 GB` (steps of 1000)."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    scaled = float(size_bytes)
    for unit in ("kB", "MB", "GB"):
        scaled /= 1000
        if round(scaled, 1) < 1000:
            return f"{scaled:.1f} {unit}"
    return f"{scaled / 1000:.1f} TB"


def count(number: int, noun: str) -> str:
    """Return `1 job`, `3 jobs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def moment(at: datetime | None, zone: tzinfo | None) -> str:
    """Return a time with the name of its zone; `zone` None means the one of this machine, `-` stands for None."""
    return NOTHING if at is None else f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"


def why(reason: str | None, exit_code: int | None) -> str:
    """Return a reason in words, such as `exit code 3` or `timed out`; nothing for None."""
    return f"exit code {exit_code}" if reason == "exit_code" else (reason or "").replace("_", " ")


def kept(run_number: int, attempt: int) -> str:
    """Return where the result of a job that did not run again is from."""
    return f"run {run_number}, attempt {attempt}"


def first_line(text: str | None) -> str:
    """Return the first line of a text that has anything in it."""
    return next(iter((text or "").strip().splitlines()), "")


def log_command(run_number: int, job: str) -> str:
    """Return the command that shows the job's log, fit to be pasted into a shell; `job` must be harmless text already."""
    return f"stretto logs {run_number} {'-- ' if job.startswith('-') else ''}{shlex.quote(job)}"
