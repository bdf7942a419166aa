"""Work that only root of the engine may do on files that containers made: a short-lived container of the attempt's own image.

Needed where this process is not root: what a job's root wrote, and the kernel's own part of an overlay, others can't delete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from stretto.core.errors import DriverError
from stretto.core.states import Reason
from stretto.drivers.docker.client import Client, RefusedError, field, segment

TARGET: Final = "/target"
TIMEOUT_S: Final = 600.0
"""A large tree on a slow disk takes minutes to delete."""


async def run_as_root(
    client: Client, name: str, *, image: str, directory: Path, command: Sequence[str], labels: Mapping[str, str]
) -> None:
    """Run a command of `image` as root, with `directory` at TARGET; what an earlier, cut-off call left is replaced.

    DriverError if the command fails.
    """
    path = f"/containers/{segment(name)}"
    body: dict[str, Any] = {
        "Image": image,
        "Entrypoint": list(command),
        "Cmd": [],
        "User": "0:0",
        "Labels": dict(labels),
        "HostConfig": {
            "NetworkMode": "none",
            "SecurityOpt": ["no-new-privileges"],
            "Mounts": [{"Type": "bind", "Source": str(directory), "Target": TARGET}],
        },
    }
    await discard(client, name)
    try:
        await client.call("POST", "/containers/create", query={"name": name}, json_body=body)
        await client.call("POST", f"{path}/start")
        ended = await client.call("POST", f"{path}/wait", timeout_s=TIMEOUT_S)
        if field(ended, "StatusCode", kind=int) != 0:
            raise DriverError(
                f"{directory}: files made by the job can't be reached: {command[0]} failed in image {image!r}",
                reason=Reason.START_FAILED,
            )
    finally:
        await discard(client, name)


async def discard(client: Client, name: str) -> None:
    """Remove a container of this name, running or not, with its anonymous volumes. Nothing happens if there is none."""
    path = f"/containers/{segment(name)}"
    try:
        await client.call("DELETE", path, query={"force": "true", "v": "true"})
    except RefusedError as error:
        if error.status == 404:
            return
        if error.status != 409:
            raise
        # Another request is removing it; that one's end is ours.
        try:
            await client.call("POST", f"{path}/wait", query={"condition": "removed"})
        except RefusedError as gone:
            if gone.status != 404:
                raise
