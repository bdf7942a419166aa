"""Overlay mounts by mount(2) itself: no process is started, and its errors keep their numbers."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

MAX_OPTIONS_BYTES: Final = 4095
"""mount(2) takes one page of options, its final zero byte included."""
MAX_LOWERS: Final = 500
"""OVL_MAX_STACK of the kernel."""

_SEPARATORS: Final = ",\\"
"""What must be escaped in every option; `lowerdir` also splits at colons."""

_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8

_libc: Final = ctypes.CDLL(None, use_errno=True)


def overlay_options(lowers: Sequence[Path], upper: Path, work: Path) -> str:
    """Return the options of an overlay. All that changes is whole files in `upper`: no redirects, no bare metadata."""
    stack = ":".join(_escape(lower, ":" + _SEPARATORS) for lower in lowers)
    own = f"upperdir={_escape(upper, _SEPARATORS)},workdir={_escape(work, _SEPARATORS)}"
    return f"lowerdir={stack},{own},redirect_dir=off,metacopy=off,index=off"


def fits(lowers: Sequence[Path], options: str) -> bool:
    """Say whether the kernel takes so many lowers and such long options."""
    return len(lowers) <= MAX_LOWERS and len(os.fsencode(options)) <= MAX_OPTIONS_BYTES


def mount_overlay(options: str, target: Path) -> None:
    """Mount an overlay on `target`; OSError as the kernel says."""
    result = _libc.mount(b"overlay", os.fsencode(target), b"overlay", _MS_NOSUID | _MS_NODEV, os.fsencode(options))
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def unmount(target: Path) -> None:
    """Unmount whatever is mounted on `target`, lazily where it is still in use. Nothing happens if nothing is."""
    while is_mounted(target):
        for flags in (_UMOUNT_NOFOLLOW, _UMOUNT_NOFOLLOW | _MNT_DETACH):
            if _libc.umount2(os.fsencode(target), flags) == 0:
                break
            if (number := ctypes.get_errno()) not in (errno.EBUSY, errno.EAGAIN):
                raise OSError(number, os.strerror(number), str(target))


def is_mounted(target: Path) -> bool:
    """Say whether `target` is a mount point; a link or nothing at all is none."""
    return os.path.ismount(target)


def _escape(path: Path, special: str) -> str:
    return "".join(f"\\{character}" if character in special else character for character in str(path))
