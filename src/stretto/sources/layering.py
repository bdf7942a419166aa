"""Makes one directory out of several, of which an earlier one hides the same path of a later one.

Used where the kernel can't do it: files are cloned where the file system shares blocks (FICLONE), copied where not. Hard
links are for layers that nobody will ever write to.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from stretto.sources.removal import remove_tree

_FICLONE: Final = 0x40049409
"""_IOW(0x94, 9, int) of <linux/fs.h>: share the blocks of another file until either is written."""

_UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS})

_OBJECTS: Final = ".git/objects"


def copy_layers(layers: Sequence[Path], target: Path, *, borrow_objects: bool) -> None:
    """Lay copies of `layers` into the new directory `target`, with their modes and times.

    With `borrow_objects` the history of the last layer's `.git` is not copied but referred to: the copy is then of use
    as long as that layer is there, and on this host only. FIFOs, sockets and devices are left out.
    """
    target.mkdir()
    clone = _Cloner()
    base = layers[-1]
    skip = base / _OBJECTS if borrow_objects and (base / _OBJECTS).is_dir() else None
    for layer in reversed(layers):
        _lay(layer, target, clone, skip)
    if skip is not None:
        (target / _OBJECTS / "info").mkdir(parents=True)
        (target / _OBJECTS / "pack").mkdir()
        (target / _OBJECTS / "info/alternates").write_text(f"{skip}\n")


def link_layers(layers: Sequence[Path], target: Path) -> None:
    """Lay hard links to the files of `layers` into the new directory `target`, copies where links can't be."""
    target.mkdir()
    for layer in reversed(layers):
        _lay(layer, target, _link, None)


def _lay(layer: Path, target: Path, put: Callable[[str, str], None], skip: Path | None) -> None:
    """Put everything of `layer` into `target`, in place of what is there, except where both have a directory."""
    directories: list[tuple[str, str]] = []
    pending = [(str(layer), str(target))]
    while pending:
        source, into = pending.pop()
        directories.append((source, into))
        with os.scandir(source) as entries:
            for entry in entries:
                place = f"{into}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    _make_directory(Path(place))
                    if skip is None or entry.path != str(skip):
                        pending.append((entry.path, place))
                elif entry.is_symlink():
                    _make_room(Path(place))
                    Path(place).symlink_to(Path(entry.path).readlink())
                elif entry.is_file(follow_symlinks=False):
                    _make_room(Path(place))
                    put(entry.path, place)
    for source, into in reversed(directories):  # a mode without w, or a time, would not survive what is put inside
        shutil.copystat(source, into)


def _make_directory(place: Path) -> None:
    try:
        place.mkdir(0o700)
    except FileExistsError:
        if not place.is_symlink() and place.is_dir():
            place.chmod(0o700)
        else:
            place.unlink()
            place.mkdir(0o700)


def _make_room(place: Path) -> None:
    if os.path.lexists(place):
        remove_tree(place)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


class _Cloner:
    """Copies files, sharing their blocks as long as the file system takes it."""

    def __init__(self) -> None:
        self._shares = True

    def __call__(self, source: str, target: str) -> None:
        if not (self._shares and self._share(source, target)):
            shutil.copyfile(source, target)
        shutil.copystat(source, target)

    def _share(self, source: str, target: str) -> bool:
        with Path(source).open("rb") as original, Path(target).open("wb") as copy:
            try:
                fcntl.ioctl(copy, _FICLONE, original.fileno())
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._shares = False
        return self._shares
