"""Where an attempt's files are, whatever its job is called."""

from __future__ import annotations

import re
import shutil
import stat
from pathlib import Path

from stretto.core.errors import StoreError
from stretto.core.spec import AttemptKey
from stretto.store.failure import os_error

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def run_directory(root: Path, run_id: str) -> Path:
    """Return the run's directory under `root`; StoreError for what can't be a run id, such as a path."""
    check_run_id(run_id)
    return root / run_id


def check_run_id(run_id: str) -> None:
    """Refuse what can't be a run id, such as a path; StoreError."""
    if not _RUN_ID.fullmatch(run_id):
        raise StoreError(f"{run_id!r} is not a run id")


def attempt_path(root: Path, key: AttemptKey) -> Path:
    """Return the path under `root` that is the attempt's own; `AttemptKey.name` maps any job's name to a safe one."""
    return run_directory(root, key.run_id) / key.name


def remove_tree(directory: Path) -> int:
    """Delete the directory, if it is there, and return how many bytes of files had no other name; StoreError."""
    if not directory.exists():
        return 0
    try:
        entries = [entry.lstat() for entry in directory.rglob("*")]
        shutil.rmtree(directory)
    except OSError as error:
        raise os_error(directory, error) from error
    return sum(entry.st_size for entry in entries if stat.S_ISREG(entry.st_mode) and entry.st_nlink == 1)
