"""The files of an attempt: how its view of the tree becomes `/workspace` in the container, and how artifacts come back.

A local engine mounts the view: as a volume of type overlay where that serves, else from where the view is on this host. A remote
one gets a copy as a tar archive, and what may be an artifact is fetched back into that copy, so that collecting is the same.
"""

from __future__ import annotations

import asyncio
import logging
import posixpath
import re
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import IO, Any, Final

from stretto.core.errors import DriverError
from stretto.core.ports import Tree
from stretto.core.states import Reason
from stretto.drivers.docker.client import Client, RefusedError, segment
from stretto.drivers.docker.container import Place
from stretto.drivers.docker.owner import Owner
from stretto.drivers.docker.wrapper import WORKSPACE
from stretto.sources.workspace import View, open_view, remove_view

log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 256 * 1024


def view_directory(place: Place) -> Path:
    """Return the folder that the attempt's view is kept in."""
    return place.directory / "view"


async def make_view(tree: Tree | None, place: Place, *, volumes: bool, copy: bool) -> View:
    """Return the attempt's view, ready to be mounted: by the engine as a volume if it can (`volumes`), else on this host.

    `copy` asks for plain files at once: for a user who must own them all, or for an engine elsewhere. What a cut-off call left
    for another tree is replaced.
    """
    directory = view_directory(place)
    on_host = not (volumes or copy)
    view = await open_view(tree, directory, mount=on_host, overlay=not copy)
    # A copy made for this host borrows from its layers, which a container does not see.
    borrows = on_host and view.kind == "copy"
    if borrows or view.lowers[-1:] != (tree.lowers if tree else ())[-1:] or view.mount != on_host:
        await remove_view(directory)
        view = await open_view(tree, directory, mount=on_host and not borrows, overlay=not (copy or borrows))
    return view


def mount_of(view: View, name: str, labels: dict[str, str]) -> dict[str, Any]:
    """Return the mount of the view (`HostConfig.Mounts`); a volume is made by the engine together with the container."""
    if view.overlay_options is None or view.mount:
        return {"Type": "bind", "Source": str(view.path), "Target": WORKSPACE}
    options = {"type": "overlay", "device": "overlay", "o": view.overlay_options}
    return {
        "Type": "volume",
        "Source": name,
        "Target": WORKSPACE,
        "VolumeOptions": {
            "NoCopy": True,
            "Labels": labels,
            "DriverConfig": {"Name": "local", "Options": options},
        },
    }


def is_volume_fault(error: RefusedError) -> bool:
    """Whether the engine could not mount a volume of type overlay."""
    return re.search(r"mount(ing)? (local )?volume|mount local storage", error.message) is not None


def is_elsewhere(error: RefusedError) -> bool:
    """Whether the engine did not see a file of this host."""
    return error.status == 400 and "bind source path does not exist" in error.message


async def upload(client: Client, name: str, pack: Callable[[IO[bytes]], None], *, timeout_s: float) -> None:
    """Lay the tar archive that `pack` writes over the container's files."""
    with tempfile.TemporaryFile() as spool:
        await asyncio.to_thread(pack, spool)
        await asyncio.to_thread(spool.seek, 0)
        await client.upload(
            f"/containers/{segment(name)}/archive", query={"path": "/"}, body=_read(spool), timeout_s=timeout_s
        )


def pack_view(view: View, owner: Owner | None) -> Callable[[IO[bytes]], None]:
    """Return what writes the view's files as an archive for `/`; they are root's, or the owner's."""

    def belong(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid, info.gid = (0, 0) if owner is None else (owner.uid, owner.gid)
        info.uname = info.gname = ""
        return info

    def pack(spool: IO[bytes]) -> None:
        with tarfile.open(fileobj=spool, mode="w") as archive:
            archive.add(view.path, arcname=WORKSPACE.lstrip("/"), filter=belong)

    return pack


async def download(client: Client, name: str, target: Path, patterns: Sequence[str]) -> None:
    """Lay what may match the patterns over `target`, as it is in the container."""
    for prefix in sorted({literal_prefix(pattern) for pattern in patterns}):
        path = posixpath.normpath(posixpath.join(WORKSPACE, prefix))
        if path != WORKSPACE and not path.startswith(WORKSPACE + "/"):
            continue  # collecting refuses such a pattern by its name
        try:
            response = await client.stream("GET", f"/containers/{segment(name)}/archive", query={"path": path})
        except RefusedError as error:
            if error.status == 404:
                continue
            raise
        with tempfile.TemporaryFile() as spool:
            try:
                async for chunk in response.chunks():
                    await asyncio.to_thread(spool.write, chunk)
            finally:
                response.close()
            await asyncio.to_thread(_unpack, spool, target, posixpath.dirname(path))


def literal_prefix(pattern: str) -> str:
    """Return the directories of `pattern` before its first wildcard, or the whole of a pattern without one."""
    parts = []
    for part in pattern.split("/"):
        if re.search(r"[*?\[]", part):
            break
        parts.append(part)
    return "/".join(parts)


def _unpack(spool: IO[bytes], target: Path, parent: str) -> None:
    """Unpack an archive whose names are relative to `parent` in the container; what would leave `target` is left out."""
    spool.seek(0)
    try:
        with tarfile.open(fileobj=spool) as archive:
            for info in archive:
                name = posixpath.relpath(posixpath.join(parent, info.name), WORKSPACE)
                _extract(archive, info, name, target)
    except tarfile.TarError as error:
        raise DriverError(
            f"the Docker engine sent an archive that can't be read: {error}", reason=Reason.ARTIFACTS_FAILED
        ) from error


def _extract(archive: tarfile.TarFile, info: tarfile.TarInfo, name: str, target: Path) -> None:
    if name == ".":
        return
    place = target / name
    if not (info.isdir() or info.isreg() or info.issym() or info.islnk()):
        return
    if not info.isdir() and place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    elif place.is_symlink() or (place.exists() and not (info.isdir() and place.is_dir())):
        place.unlink()  # a link here would lead the bytes elsewhere
    info = info.replace(name=name, mode=info.mode | 0o600, deep=False)
    try:
        archive.extract(info, target, filter="data", set_attrs=True)
    except tarfile.FilterError as error:
        log.warning("a file of the container is left out", extra={"path": name, "error": str(error)})


async def _read(spool: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(spool.read, CHUNK_BYTES):
        yield chunk
