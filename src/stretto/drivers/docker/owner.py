"""Who owns an attempt's tree where the script does not run as root: the user's numbers, looked up as the engine does."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Final

from stretto.core.errors import DriverError, EngineUnavailableError
from stretto.core.frozen import frozen
from stretto.core.states import Reason
from stretto.drivers.docker.client import Client, RefusedError, segment

FILE_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""The largest passwd or group file that is read; those of whole companies are smaller."""


@frozen
class Owner:
    """A user and its group, by number."""

    uid: int
    gid: int


async def find_owner(client: Client, container: str, user: str) -> Owner:
    """Return the numbers of `user` (`name|uid[:group|gid]`) in a container; DriverError where it has no such user."""
    name, _, group = user.partition(":")
    passwd = await _read_table(client, container, "/etc/passwd")
    found = next((row for row in passwd if len(row) > 3 and name in (row[0], row[2])), None)
    uid = name if name.isdigit() else found[2] if found else ""
    gid = found[3] if found else "0"
    if group:
        groups = await _read_table(client, container, "/etc/group")
        gid = group if group.isdigit() else next((row[2] for row in groups if len(row) > 2 and row[0] == group), "")
    if not (uid.isdigit() and gid.isdigit()):
        raise DriverError(
            f"the image has no user {user!r}",
            reason=Reason.START_FAILED,
            hint="give a user of the image, or a number",
        )
    return Owner(int(uid), int(gid))


def change_owner(root: Path, owner: Owner) -> None:
    """Give everything beneath `root` to the owner, links themselves and not what they point to. Blocks."""
    for folder, _, files, descriptor in os.fwalk(root):
        os.chown(folder, owner.uid, owner.gid)
        for file in files:
            os.chown(file, owner.uid, owner.gid, dir_fd=descriptor, follow_symlinks=False)


async def _read_table(client: Client, container: str, path: str) -> list[list[str]]:
    """Return the rows of a file of the container, none if it has no such file."""
    try:
        response = await client.stream("GET", f"/containers/{segment(container)}/archive", query={"path": path})
    except RefusedError as error:
        if error.status == 404:
            return []
        raise
    data = await response.read(FILE_LIMIT_BYTES)
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            member = archive.next()
            file = None if member is None else archive.extractfile(member)
            text = b"" if file is None else file.read()
    except (tarfile.TarError, KeyError) as error:
        raise EngineUnavailableError(f"the Docker engine sent {path} in a way that can't be read") from error
    return [line.split(":") for line in text.decode("utf-8", "replace").splitlines()]
