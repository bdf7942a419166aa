"""Overlay mounts by mount(2) itself: no process is started, and its errors keep their numbers."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

MAX_OPTIONS_BYTES: Final = 4095 - len(",volatile")
"""mount(2) takes one page of options, its final zero byte included."""
MAX_LOWERS: Final = 500
"""OVL_MAX_STACK of the kernel."""

_SEPARATORS: Final = ",\\"
"""What must be escaped in every option; `lowerdir` also splits at colons."""

_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MNT_DETACH: Final = 2
_MNT_EXPIRE: Final = 4
_UMOUNT_NOFOLLOW: Final = 8

_NOT_MOUNTED: Final = (errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What umount2(2) says of a path that is no mount point, or not there. Asking it is five times as quick as looking first."""

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
    """Mount an overlay on `target`; OSError as the kernel says.

    It is volatile where the kernel can do that (5.10 and later): nothing in it is synced, as a view does not outlive its host's
    power. Else the kernel syncs the whole upper layer at the end, which is then deleted.
    """
    if (number := _mount(f"{options},volatile", target)) == errno.EINVAL:
        number = _mount(options, target)
    if number:
        raise OSError(number, os.strerror(number), str(target))


def unmount(target: Path) -> None:
    """Unmount whatever is mounted on `target`, lazily where it is still in use. Nothing happens if nothing is."""
    path, flags = os.fsencode(target), _UMOUNT_NOFOLLOW
    while True:  # until nothing is: mounts may be stacked
        if _libc.umount2(path, flags) == 0:
            flags = _UMOUNT_NOFOLLOW
            continue
        number = ctypes.get_errno()
        if number in _NOT_MOUNTED or (number == errno.EPERM and not is_mounted(target)):
            return
        if number not in (errno.EBUSY, errno.EAGAIN):
            raise OSError(number, os.strerror(number), str(target))
        flags |= _MNT_DETACH


def is_idle(target: Path) -> bool:
    """Say whether `target` is a mount in which no process works and nothing is open. One that is not may be unmounted by this.

    umount2(2) with MNT_EXPIRE refuses a busy mount with EBUSY and an idle one, at the first time of asking, with EAGAIN.
    """
    return (
        _libc.umount2(os.fsencode(target), _MNT_EXPIRE | _UMOUNT_NOFOLLOW) != 0 and ctypes.get_errno() == errno.EAGAIN
    )


def is_mounted(target: Path) -> bool:
    """Say whether `target` is a mount point; a link or nothing at all is none."""
    return os.path.ismount(target)


def _mount(options: str, target: Path) -> int:
    data = os.fsencode(options)
    failed = _libc.mount(b"overlay", os.fsencode(target), b"overlay", _MS_NOSUID | _MS_NODEV, data) != 0
    return ctypes.get_errno() if failed else 0


def _escape(path: Path, special: str) -> str:
    return str(path).translate({ord(character): f"\\{character}" for character in special})
