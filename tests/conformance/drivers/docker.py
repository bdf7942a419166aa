"""The harness of the driver `docker`: the engine of this machine."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from stretto.core.ports import Driver, Launch, Tree
from stretto.core.spec import AttemptKey, ContainerSpec, JobSpec, Script
from stretto.drivers.docker import DockerDriver, DockerSettings
from tests.conformance.drivers.harness import SHELL, TREE, Keys, Work, script_of
from tests.support.images import engine_call, import_image

IMAGE = "stretto-test:busybox"


@functools.cache
def image() -> str:
    """Return the image of all tests, which stays: made anew it would leave the old one nameless."""
    return IMAGE if engine_call("GET", f"/images/{IMAGE}/json")[0] == 200 else import_image(IMAGE)


class DockerHarness:
    """This machine's engine, with an installation of the test's own.

    What a script counts and waits for are files beside its control files: the one folder of this host that it sees as it is.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({SHELL, TREE})

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._keys = Keys(directory)
        self._installation = f"test-{os.getpid()}-{directory.name}"

    def driver(self) -> Driver:
        """Return a new driver over the engine."""
        return DockerDriver(DockerSettings(pull="never"), installation=self._installation)

    def launch(self, work: Work) -> Launch:
        """Return a launch whose script does `work`."""
        return self.launch_script(script_of(work, count="echo run >>/stretto/runs", gate="[ -e /stretto/gate ]"))

    def launch_script(
        self,
        script: Script,
        *,
        tree: Tree | None = None,
        variables: Mapping[str, str] | None = None,
        working_directory: str | None = None,
    ) -> Launch:
        """Return a launch of `script`."""
        key = self._keys.next()
        job = JobSpec(
            key.job,
            "test",
            "docker",
            script=script,
            container=ContainerSpec(image()),
            working_directory=working_directory,
        )
        return Launch(key, job, self._directory / "attempts" / key.run_id / key.name, tree, variables or {})

    def release(self, launch: Launch) -> None:
        """Make the file that the script waits for."""
        (launch.directory / "control/gate").touch()

    def runs_of(self, launch: Launch) -> int:
        """Return how many lines the script has written."""
        count = launch.directory / "control/runs"
        return len(count.read_text().splitlines()) if count.exists() else 0

    async def lose(self, launch: Launch) -> None:
        """Kill the container from outside."""
        engine_call("POST", f"/containers/{launch.key.name}/kill")

    def left(self, launch: Launch) -> list[str]:
        """Return containers, volumes, mounts and the directory of the attempt."""
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(launch.directory) in line]
        return [*_labelled(launch.key), *[str(launch.directory)] * launch.directory.exists(), *mounts]

    async def close(self) -> None:
        """Remove what a test has left."""
        driver = self.driver()
        for handle in await driver.orphans():
            await driver.remove(handle)
        await driver.close()


def _labelled(key: AttemptKey) -> list[str]:
    filters = quote(json.dumps({"label": [f"dev.stretto.key={key.text}"]}))
    containers = engine_call("GET", f"/containers/json?all=true&filters={filters}")[1]
    volumes = engine_call("GET", f"/volumes?filters={filters}")[1]["Volumes"] or []
    return [f"container {item['Id']}" for item in containers] + [f"volume {item['Name']}" for item in volumes]
