"""Gives an attempt a private, writable view of its tree, at a cost that does not grow with the tree where overlays serve.

A view is found again after a crash by `view.json` in its directory. Nothing done in a view reaches a layer beneath it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from stretto.core.errors import DriverError
from stretto.core.frozen import frozen
from stretto.core.ports import ArtifactFile, Tree
from stretto.core.states import Reason
from stretto.sources.collect import collect_files, compile_patterns
from stretto.sources.disk import FULL, kept_on_disk
from stretto.sources.layering import copy_layers, link_layers
from stretto.sources.mount import fits, is_idle, is_mounted, mount_overlay, overlay_options, unmount
from stretto.sources.removal import remove_tree

__all__ = [
    "View",
    "close_view",
    "collect",
    "discard_view",
    "is_as_new",
    "is_untouched",
    "open_view",
    "remove_view",
    "state_of",
]

Kind = Literal["overlay", "copy"]

_VERSION: Final = 1
_RECORD: Final = "view.json"
_PROBE: Final = "trusted.overlay.stretto"
_OVERLAY_DIRECTORIES: Final = ("upper", "work", "tree")
_VOLATILE: Final = "work/work/incompat/volatile"
"""What the kernel marks a volatile overlay with; it refuses to mount it again while that is there."""
_MADE_BY_KERNEL: Final = (_VOLATILE, "work/work/incompat", "work/work")


@frozen
class View:
    """An attempt's files. `path` is where they are, or, before an overlay is mounted, an empty directory for it.

    `lowers` are the layers beneath, earlier ones first. `overlay_options` is for a mount of type overlay; None for a copy.
    """

    directory: Path
    kind: Kind
    lowers: tuple[Path, ...]
    mount: bool

    @property
    def path(self) -> Path:
        """The directory of the view itself."""
        return self.directory / "tree"

    @property
    def upper(self) -> Path:
        """Where an overlay keeps what was changed; of no use for a copy."""
        return self.directory / "upper"

    @property
    def overlay_options(self) -> str | None:
        """The options of an overlay mount, lowerdir, upperdir and workdir in them."""
        if self.kind == "copy":
            return None
        return overlay_options(self.lowers, self.upper, self.directory / "work")


async def open_view(tree: Tree | None, directory: Path, *, mount: bool = True, overlay: bool = True) -> View:
    """Return a writable view of `tree` (None: of nothing) kept in `directory`. Idempotent: one that is there is opened again.

    An overlay where it serves, a copy elsewhere. With `mount` False an overlay is only got ready, for the caller (or a
    Docker volume) to mount; `overlay` False asks for a copy at once. DriverError, reason `tree_failed` or `disk_full`.
    """
    lowers = () if tree is None else tree.lowers
    if overlay or not lowers:
        # A quarter of a millisecond; the way to a thread and back would take as long again.
        view = _open(lowers, directory, mount, overlay, may_copy=False)
        if view is not None:
            return view
    overlay = overlay and len(lowers) > 1  # one that was refused is so again, unless fewer layers help
    view = await asyncio.to_thread(_open, lowers, directory, mount, overlay, may_copy=True)
    assert view is not None
    return view


async def close_view(directory: Path) -> None:
    """Unmount the view; its files stay, and it may be opened again. Idempotent."""
    await asyncio.to_thread(_close, directory)


async def remove_view(directory: Path) -> None:
    """Unmount the view and delete `directory` with all in it. Idempotent; serves after any crash.

    ForeignFilesError (a PermissionError) if something in it belongs to another user, StoreError if it can't be deleted.
    """
    await asyncio.to_thread(discard_view, directory)


def discard_view(directory: Path) -> None:
    """Do what `remove_view` does, for a caller that is in a thread already."""
    _close(directory)
    if not _remove_untouched(directory):
        with kept_on_disk(directory):
            remove_tree(directory)


async def collect(directory: Path, patterns: Sequence[str], limit_bytes: int) -> list[ArtifactFile]:
    """Return what was created or changed in the view and matches one of `patterns`, sorted by path.

    Patterns are globs relative to the tree; a directory means all beneath it. What is no file, and links out of the tree,
    are left out with a warning in the log. InputError for a pattern that leaves the tree; DriverError, reason
    `artifacts_failed`, if it is more than `limit_bytes`.
    """
    wanted = compile_patterns(patterns)
    return await asyncio.to_thread(_collect, directory, wanted, limit_bytes)


def is_untouched(directory: Path) -> bool:
    """Say whether the view is an overlay in which nothing was written, so that removing it takes no time to speak of."""
    try:
        with os.scandir(f"{directory}/upper") as entries:
            return next(entries, None) is None
    except OSError:
        return False


def state_of(directory: Path) -> tuple[object, ...] | None:
    """Return what differs, for a view that is an overlay, once anything was changed in it; None for any other view.

    Every change in an overlay changes its upper directory, be it only the mode of the tree's root. The kernel keeps the time of
    the last one; its clock ticks every few milliseconds, so what a change within one tick leaves is looked at too.
    """
    upper = f"{directory}/upper"
    try:
        found = os.stat(upper)  # noqa: PTH116 - every attempt comes by here
        marks = tuple(os.listxattr(upper))
    except OSError:
        return None
    return (found.st_ctime_ns, found.st_mtime_ns, found.st_mode, found.st_uid, found.st_gid, marks)


def is_as_new(directory: Path, state: tuple[object, ...]) -> bool:
    """Say whether the view is still as when `state_of` gave `state`, mounted, and used by nobody."""
    return is_untouched(directory) and state_of(directory) == state and is_idle(directory / "tree")


def _open(lowers: tuple[Path, ...], directory: Path, mount: bool, overlay: bool, *, may_copy: bool) -> View | None:
    """Open or make the view; None, with nothing made, where that takes copies or links of files and they are not allowed."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        view = _read(directory)
        if is_new := view is None:
            for lower in lowers:
                if not lower.is_dir():
                    raise DriverError(f"{lower}: a layer of the tree is gone", reason=Reason.TREE_FAILED)
            view = _make_overlay(lowers, directory, mount, may_link=may_copy) if overlay and lowers else None
            if view is None and lowers and not may_copy:
                return None
            view = view or _make_copy(lowers, directory, mount)
        if view.kind == "overlay" and mount and not is_new and not is_mounted(view.path):
            remove_tree(directory / "work" / "work")  # a mount that was volatile is refused another time with it
            mount_overlay(view.overlay_options or "", view.path)
    except OSError as error:
        reason = Reason.DISK_FULL if error.errno in FULL else Reason.TREE_FAILED
        raise DriverError(f"{directory}: the tree can't be made: {error}", reason=reason) from error
    return view


def _make_overlay(lowers: tuple[Path, ...], directory: Path, mount: bool, *, may_link: bool) -> View | None:
    """Return an overlay, mounted if asked; None where the system or the layers don't allow one."""
    view = View(directory, "overlay", lowers, mount)
    options = view.overlay_options or ""
    if not fits(lowers, options) and len(lowers) > 1 and may_link:
        flat = directory / "flat"
        remove_tree(flat)
        link_layers(lowers[:-1], flat)
        view = View(directory, "overlay", (flat, lowers[-1]), mount)
        options = view.overlay_options or ""
    if not fits(view.lowers, options):
        return None
    for name in _OVERLAY_DIRECTORIES:
        (directory / name).mkdir(exist_ok=True)
    view.upper.chmod(lowers[-1].stat().st_mode & 0o7777)
    if not mount:
        _write(view)
        return view
    try:
        os.setxattr(view.upper, _PROBE, b"")  # without such marks a deleted directory would show through again
        os.removexattr(view.upper, _PROBE)
        _write(view)  # before the mount: a crash between the two leaves nothing that can't be found
        mount_overlay(options, view.path)
    except OSError as error:
        if error.errno in FULL:
            raise
        for name in (_RECORD, *_OVERLAY_DIRECTORIES, "flat"):
            remove_tree(directory / name)
        return None
    return view


def _make_copy(lowers: tuple[Path, ...], directory: Path, mount: bool) -> View:
    partial = directory / "tree.partial"
    for leftover in (partial, directory / "tree"):  # without a record, a tree is one that was not finished
        remove_tree(leftover)
    if lowers:
        # A tree that goes into a container (not mounted here) needs its objects with it.
        copy_layers(lowers, partial, borrow_objects=mount)
    else:
        partial.mkdir()
    view = View(directory, "copy", lowers, mount)
    partial.rename(view.path)
    _write(view)
    return view


def _remove_untouched(directory: Path) -> bool:
    """Delete a view in which nothing was written, by name: a third of the time that looking for what is there takes."""
    try:
        os.unlink(f"{directory}/{_VOLATILE}/dirty")  # noqa: PTH108 - a path object each would take longer than the call
        for name in (*_MADE_BY_KERNEL, *_OVERLAY_DIRECTORIES):
            os.rmdir(f"{directory}/{name}")  # noqa: PTH106
        os.unlink(f"{directory}/{_RECORD}")  # noqa: PTH108
        os.rmdir(directory)  # noqa: PTH106
    except OSError:
        return False
    return True


def _close(directory: Path) -> None:
    with kept_on_disk(directory):
        unmount(directory / "tree")


def _collect(directory: Path, wanted: list[str], limit_bytes: int) -> list[ArtifactFile]:
    view = _read(directory)
    if view is None:
        raise DriverError(f"{directory}: there is no tree to collect from", reason=Reason.ARTIFACTS_FAILED)
    try:
        if view.kind == "overlay":
            return collect_files(view.upper, view.lowers, wanted, limit_bytes, compare=False)
        return collect_files(view.path, view.lowers, wanted, limit_bytes, compare=True)
    except OSError as error:
        raise DriverError(f"{directory}: artifacts can't be read: {error}", reason=Reason.ARTIFACTS_FAILED) from error


def _write(view: View) -> None:
    record = {
        "version": _VERSION,
        "kind": view.kind,
        "lowers": [str(lower) for lower in view.lowers],
        "mount": view.mount,
    }
    path = f"{view.directory}/{_RECORD}"
    with open(f"{path}.partial", "w") as file:  # noqa: PTH123 - every attempt comes by here
        file.write(json.dumps(record))
    os.replace(f"{path}.partial", path)  # noqa: PTH105


def _read(directory: Path) -> View | None:
    try:
        with open(f"{directory}/{_RECORD}", "rb") as file:  # noqa: PTH123 - every attempt comes by here
            record = json.loads(file.read())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DriverError(f"{directory / _RECORD} is damaged: {error}", reason=Reason.TREE_FAILED) from error
    return View(directory, record["kind"], tuple(map(Path, record["lowers"])), record["mount"])
