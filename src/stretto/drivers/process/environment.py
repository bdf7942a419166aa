"""The variables that every script on this host gets beyond its job's own.

Not the orchestrator's whole environment: that differs from terminal to terminal and holds tokens that are no business of a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MARK: Final = "STRETTO_ATTEMPT_KEY"
"""Holds the attempt's key, and so tells the attempt's processes from all others wherever they went."""

KEPT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",  # where the user's own tools are
    "HOME": "/",  # where tools keep their configuration and caches
    "USER": None,  # who it runs as, for tools that ask the environment
    "LOGNAME": None,  # the same, as POSIX has it
    "LANG": "C.UTF-8",  # encodings and messages as the user has them; UTF-8 where nothing is said
    "LC_ALL": None,
    "LC_CTYPE": None,
    "TZ": None,  # times in output as the user has them
    "TMPDIR": None,  # where the user has room for temporary files
}
"""What is taken over, with what stands in for it where it is not set (None: nothing does)."""


def build_environment(key: str, variables: Mapping[str, str], shell: str, *, own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the attempt's script; `own` is the orchestrator's, the job's `variables` win over both."""
    base = {name: value for name, default in KEPT.items() if (value := own.get(name, default)) is not None}
    return {**base, "SHELL": shell, **variables, MARK: key}
