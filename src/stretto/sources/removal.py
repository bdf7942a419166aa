"""Deletes trees that jobs have written: directories without permissions, deep ones, links, files that come and go."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from stretto.core.errors import StrettoError

_TRIES: Final = 5
"""A process that is being killed may still add a file to a directory that is being emptied."""


class ForeignFilesError(StrettoError, PermissionError):
    """Files of another user (root, where a container made them) can't be deleted by this one."""

    exit_code = 1


def remove_tree(path: Path) -> None:
    """Delete `path` and all beneath it, never following a symbolic link; nothing happens if it isn't there.

    ForeignFilesError if something in it belongs to another user.
    """
    for remaining in reversed(range(_TRIES)):
        try:
            shutil.rmtree(path)
            return
        except FileNotFoundError:
            if not os.path.lexists(path):
                return
        except NotADirectoryError:
            path.unlink(missing_ok=True)
            return
        except PermissionError as error:
            if not remaining or not _make_removable(path):
                raise ForeignFilesError(
                    f"{error.filename or path} can't be deleted: it belongs to another user",
                    hint=f"delete {path} as that user (root, if a container made it)",
                ) from error
        except OSError:
            if not remaining:
                raise


def _make_removable(path: Path) -> bool:
    """Give the owner all rights on every directory beneath `path`; False if none lacked them."""
    changed = False
    pending = [str(path)]
    while pending:
        directory = pending.pop()
        try:
            mode = os.lstat(directory).st_mode
            if mode & 0o700 != 0o700:
                Path(directory).chmod(mode & 0o7777 | 0o700)
                changed = True
            with os.scandir(directory) as entries:
                pending += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:  # not ours: the deletion will say so
            continue
    return changed
