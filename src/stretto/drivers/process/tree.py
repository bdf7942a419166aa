"""The directory an attempt's script runs in: a private view of its source tree, or an empty directory.

`workspace` (of the package `sources`) makes and unmakes views; this module says where they lie and whose errors they are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from stretto.core.errors import DriverError
from stretto.core.ports import ArtifactFile, Tree
from stretto.core.states import Reason
from stretto.drivers.process.folder import Folder


def open_tree(folder: Folder, tree: Tree | None, *, mount: bool) -> Path:
    """Return the root of the attempt's own tree, made if it is not there yet. OSError, DriverError."""
    if tree is None:
        folder.tree.mkdir(exist_ok=True)
        return folder.tree
    raise DriverError("trees are not there yet", reason=Reason.TREE_FAILED)


def find_place(root: Path, working_directory: str | None) -> Path:
    """Return the directory under `root` in which the script starts. DriverError where it leaves the tree or is not there."""
    if working_directory is None:
        return root
    place = (root / working_directory).resolve()
    if not place.is_relative_to(root.resolve()):
        raise DriverError(f"working_directory {working_directory!r} leaves the tree", reason=Reason.START_FAILED)
    if not place.is_dir():
        raise DriverError(
            f"working_directory {working_directory!r} is not a directory of the tree", reason=Reason.START_FAILED
        )
    return place


def collect(folder: Folder, patterns: Sequence[str], limit_bytes: int) -> Sequence[ArtifactFile]:
    """Return the files of the attempt's tree that are new or changed and match. DriverError."""
    return ()


def delete_tree(folder: Folder) -> None:
    """Delete the attempt's tree. OSError."""
    shutil.rmtree(folder.tree, ignore_errors=not os.path.lexists(folder.tree))
