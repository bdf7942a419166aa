"""Brings attempts up: image, tree and control files, a container that waits at its gate, and the opening of the gate.

Every step finds out what is there already, so that it can be cut off anywhere and done again, by this process or another. Two
facts decide: the token `started` (the script began: whatever the container's state, it is never started again) and the file
`released` (this or an earlier orchestrator opened the gate, or was about to).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from stretto.core.errors import DriverError
from stretto.core.frozen import frozen
from stretto.core.ports import Launch
from stretto.core.states import Reason
from stretto.drivers.docker import tree, wrapper
from stretto.drivers.docker.cleanup import TARGET, discard, run_as_root
from stretto.drivers.docker.client import Client, RefusedError, segment
from stretto.drivers.docker.container import DIGEST, Place, body_for, digest_of, labels_for
from stretto.drivers.docker.image import Images
from stretto.drivers.docker.output import Output
from stretto.drivers.docker.owner import Owner, change_owner, find_owner
from stretto.drivers.docker.record import STARTED, inspect, is_running, written_at
from stretto.drivers.docker.settings import DockerSettings
from stretto.sources.removal import remove_tree
from stretto.sources.workspace import remove_view

log = logging.getLogger(__name__)

ROOT_USERS: Final = frozenset({"", "0", "root"})
NAME_TAKEN: Final = 409
NOT_FOUND: Final = 404
CREATE_TRIES: Final = 50
CREATE_PAUSE_S: Final = 0.1


@frozen
class Plan:
    """What an attempt's container is made from. `user` is whom the script runs as, empty for root."""

    launch: Launch
    place: Place
    files: Mapping[str, bytes]
    body: dict[str, Any]
    user: str
    image_id: str

    @property
    def digest(self) -> str:
        """What a container made from another plan differs in."""
        return str(self.body["Labels"][DIGEST])

    @property
    def copies(self) -> bool:
        """Whether the tree must be plain files: another user than root has to own them all."""
        return self.user.partition(":")[0] not in ROOT_USERS

    def body_with(self, mounts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the body of the request that creates the container with these mounts."""
        return {**self.body, "HostConfig": {**self.body["HostConfig"], "Mounts": list(mounts)}}


class Launcher:
    """Makes and starts containers. Calls for one attempt come one at a time; different attempts at once."""

    def __init__(self, client: Client, settings: DockerSettings, images: Images, *, installation: str) -> None:
        self._client = client
        self._settings = settings
        self._images = images
        self._installation = installation
        self._starts = asyncio.Semaphore(settings.start_concurrency)
        self._outputs: dict[str, Output] = {}
        self._waiting: dict[str, str] = {}
        """Containers that wait at their gate, by name, with the digest of what they were made from."""
        self._sees_files: bool | None = None
        """Whether the engine sees this host's files; None until a container was made."""
        self._mounts_volumes = True

    def output(self, name: str) -> Output | None:
        """Return the attempt's streams if this process is (or was) attached to it."""
        return self._outputs.get(name)

    async def bring_up(self, launch: Launch) -> None:
        """Have a container for the attempt that waits at its gate, unless the script has begun."""
        plan = await self._plan(launch)
        place = plan.place
        if self._attached(place) is not None and self._waiting.get(place.name, plan.digest) == plan.digest:
            return
        container = await inspect(self._client, place.name)
        if container is None and place.released.exists():
            return  # it ran and has gone; `wait` says so
        if container is not None and await self._has_begun(place, container):
            return
        if container is not None and (container["Config"].get("Labels") or {}).get(DIGEST) != plan.digest:
            await self.drop(place)
            container = None
        if container is None:
            await self._create(plan)
        try:
            await self._start_with_tree(plan)
        except BaseException:
            await self.detach(place)  # attached means: waits at its gate, or was let go by this process
            raise
        self._waiting[place.name] = plan.digest

    async def release(self, place: Place) -> None:
        """Open the gate. Nothing happens if the script has begun, or the container has gone."""
        output = self._attached(place)
        if output is None:
            container = await inspect(self._client, place.name)
            if container is None or await self._has_begun(place, container) or not is_running(container):
                return
            output = await self._attach(place)
        elif place.name not in self._waiting:
            return
        output.from_start = await asyncio.to_thread(_mark_released, place)
        await output.open_gate()
        self._waiting.pop(place.name, None)

    async def drop(self, place: Place) -> None:
        """Remove the attempt's container, volume and view, so that it can be made anew."""
        await self.detach(place)
        await discard(self._client, place.name)
        await self.discard_volume(place.name)
        await remove_view(tree.view_directory(place))
        await asyncio.to_thread(remove_tree, place.control)

    async def discard_volume(self, name: str) -> None:
        """Remove the attempt's volume, if it has one."""
        try:
            await self._client.call("DELETE", f"/volumes/{segment(name)}")
        except RefusedError as error:
            if error.status != NOT_FOUND:
                raise

    async def detach(self, place: Place) -> None:
        """Let go of the attempt's streams."""
        self._waiting.pop(place.name, None)
        output = self._outputs.pop(place.name, None)
        if output is not None:
            await output.close()

    async def close(self) -> None:
        """Let go of all streams; attempts go on."""
        for output in self._outputs.values():
            await output.close()
        self._outputs.clear()
        self._waiting.clear()

    async def _plan(self, launch: Launch) -> Plan:
        place = Place.of(launch.key, launch.directory)
        files = wrapper.files_for(launch.job, launch.tree)
        if launch.job.container is None:
            raise DriverError(f"job {launch.job.name!r} names no image", reason=Reason.START_FAILED)
        image = await self._images.ensure(launch.job.container.image)
        user = launch.job.container.user or self._settings.user or ""
        labels = labels_for(place, self._installation)
        body = body_for(launch, self._settings, user=user, labels=labels)
        body["Labels"][DIGEST] = digest_of(body, files, launch.tree.lowers if launch.tree else ())
        return Plan(launch, place, files, body, user or image.user, image.id)

    def _attached(self, place: Place) -> Output | None:
        """Return the attempt's streams if they are open."""
        output = self._outputs.get(place.name)
        return None if output is None or output.ended.is_set() else output

    async def _has_begun(self, place: Place, container: Mapping[str, Any]) -> bool:
        if container["State"].get("Status") == "created":
            return False
        return await written_at(self._client, place, STARTED) is not None

    async def _create(self, plan: Plan) -> None:
        await asyncio.to_thread(_make_private, plan.place.directory, plan.image_id)
        if self._sees_files is not False:
            try:
                await self._create_here(plan)
                self._sees_files = True
                return
            except RefusedError as error:
                if self._sees_files or not tree.is_elsewhere(error):
                    raise explain(error, plan.body) from error
            self._sees_files = False
            log.info("the engine does not see this host's files; trees are uploaded")
            await self.drop(plan.place)
        try:
            await self._ask_to_create(plan, ())
        except RefusedError as error:
            raise explain(error, plan.body) from error

    async def _create_here(self, plan: Plan) -> None:
        place = plan.place
        view = await tree.make_view(plan.launch.tree, place, volumes=self._mounts_volumes, copy=plan.copies)
        await asyncio.to_thread(wrapper.write_files, place.control, plan.files)
        control = {"Type": "bind", "Source": str(place.control), "Target": wrapper.CONTROL}
        await self._ask_to_create(plan, (control, tree.mount_of(view, place.name, plan.body["Labels"])))

    async def _ask_to_create(self, plan: Plan, mounts: Sequence[Mapping[str, Any]]) -> None:
        """Create the container; another orchestrator that is quicker has made the same."""
        body, image, name = plan.body_with(mounts), plan.body["Image"], plan.place.name
        for left in reversed(range(CREATE_TRIES)):
            try:
                await self._client.call("POST", "/containers/create", query={"name": name}, json_body=body)
                return
            except RefusedError as error:
                if error.status not in (NAME_TAKEN, NOT_FOUND) or not left:
                    raise
                taken = error.status == NAME_TAKEN
            if not taken:  # the image was there a moment ago
                self._images.forget(image)
                await self._images.ensure(image)
            elif await inspect(self._client, name) is not None:
                return
            else:  # the engine takes the name first and knows the container a little later
                await asyncio.sleep(CREATE_PAUSE_S)

    async def _start_with_tree(self, plan: Plan) -> None:
        """Start the container; where volumes of type overlay turn out not to serve, make it anew with a mount of this host."""
        try:
            await self._start(plan)
        except RefusedError as error:
            if not (self._mounts_volumes and tree.is_volume_fault(error)):
                raise explain(error, plan.body) from error
            log.warning(
                "the engine can't mount overlay volumes; trees are mounted here", extra={"error": error.message}
            )
            self._mounts_volumes = False
            await self.drop(plan.place)
            await self._create(plan)
            try:
                await self._start(plan)
            except RefusedError as again:
                raise explain(again, plan.body) from again

    async def _start(self, plan: Plan) -> None:
        place = plan.place
        owner = await find_owner(self._client, place.name, plan.user) if plan.copies else None
        if not place.control.is_dir():
            await self._upload(plan, owner)
        elif owner is not None:
            await self._give_tree(place, owner, plan)
        async with self._starts:
            await self._attach(place)
            await self._client.call("POST", f"/containers/{segment(place.name)}/start")

    async def _upload(self, plan: Plan, owner: Owner | None) -> None:
        """Lay control files and tree into the container of an engine elsewhere; again after an upload that was cut off."""
        view = await tree.make_view(plan.launch.tree, plan.place, volumes=False, copy=True)
        limit_s = self._settings.pull_timeout_s
        for pack in (wrapper.pack_files(plan.files), tree.pack_view(view, owner)):
            await tree.upload(self._client, plan.place.name, pack, timeout_s=limit_s)

    async def _give_tree(self, place: Place, owner: Owner, plan: Plan) -> None:
        """Make the script's user the owner of the copied tree."""
        files = tree.view_directory(place) / "tree"
        try:
            await asyncio.to_thread(change_owner, files, owner)
        except PermissionError:
            command = ("chown", "-Rh", f"{owner.uid}:{owner.gid}", f"{TARGET}/view/tree")
            labels = labels_for(place, self._installation)
            await run_as_root(
                self._client,
                place.tidier,
                image=plan.image_id,
                directory=place.directory,
                command=command,
                labels=labels,
            )

    async def _attach(self, place: Place) -> Output:
        await self.detach(place)
        stream = await self._client.hijack(
            f"/containers/{segment(place.name)}/attach",
            query={"stream": "true", "stdin": "true", "stdout": "true", "stderr": "true"},
        )
        output = Output(stream, place.name)
        self._outputs[place.name] = output
        return output


def explain(error: RefusedError, body: Mapping[str, Any]) -> DriverError:
    """Return the engine's refusal to start a container in words that say what to do."""
    image, text = body["Image"], error.message
    hint = None
    message = f"a container of image {image!r} can't be started: {text}"
    if error.reason == Reason.DISK_FULL:
        return DriverError(message, reason=error.reason)
    if wrapper.COMMAND[0] in text and ("no such file" in text or "not found" in text):
        message = f"the image {image!r} has no {wrapper.COMMAND[0]}, which runs the script"
        hint = "choose an image with a shell"
    elif "unable to find user" in text or "unable to find group" in text or "no matching entries in" in text:
        message = f"the image {image!r} has no user {body['User']!r}"
        hint = "give a user of the image, or a number"
    return DriverError(message, reason=Reason.START_FAILED, hint=hint)


def _make_private(directory: Path, image: str) -> None:
    """Make the attempt's folder, closed to others: what is in it belongs to the container's users."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    (directory / "image").write_text(image)


def _mark_released(place: Place) -> bool:
    """Note that the gate is being opened; False if it was noted before."""
    try:
        place.released.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
