"""The harness of the driver `process`."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from stretto.core.ports import Driver, Launch, Tree
from stretto.core.spec import Script
from stretto.drivers.process import ProcessDriver, ProcessSettings
from stretto.drivers.process.environment import MARK
from tests.conformance.drivers.harness import SHELL, TREE, Keys, Work, job_of, script_of


class ProcessHarness:
    """This host, with a directory of the test's own for the attempts."""

    capabilities: ClassVar[frozenset[str]] = frozenset({SHELL, TREE})

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._keys = Keys(directory)
        self._launches: list[Launch] = []

    def driver(self) -> Driver:
        """Return a new driver over this host."""
        return ProcessDriver(ProcessSettings(attempts=self._directory / "attempts"))

    def launch(self, work: Work) -> Launch:
        """Return a launch whose script does `work`; it counts in one file and waits for another."""
        launch = self.launch_script(Script(()))
        count = f"echo run >>{shlex.quote(str(self._count(launch)))}"
        gate = f"[ -e {shlex.quote(str(self._gate(launch)))} ]"
        script = script_of(work, count=count, gate=gate)
        return Launch(launch.key, job_of("process", launch.key, script), launch.directory)

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
        job = job_of("process", key, script, working_directory)
        launch = Launch(key, job, self._directory / "attempts" / key.run_id / key.name, tree, variables or {})
        self._launches.append(launch)
        return launch

    def release(self, launch: Launch) -> None:
        """Make the file that the script waits for."""
        self._gate(launch).touch()

    def runs_of(self, launch: Launch) -> int:
        """Return how many lines the script has written."""
        count = self._count(launch)
        return len(count.read_text().splitlines()) if count.exists() else 0

    async def lose(self, launch: Launch) -> None:
        """Kill every process of the attempt from outside."""
        for pid in self._pids(launch):
            os.kill(pid, signal.SIGKILL)

    def left(self, launch: Launch) -> list[str]:
        """Return the attempt's directory, mounts and processes."""
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(launch.directory) in line]
        processes = [f"process {pid}" for pid in self._pids(launch)]
        return [str(launch.directory)] * launch.directory.exists() + mounts + processes

    async def close(self) -> None:
        """Kill what a failed test has left."""
        driver = self.driver()
        for handle in await driver.orphans():
            await driver.remove(handle)
        await driver.close()
        assert [self._pids(launch) for launch in self._launches] == [[]] * len(self._launches)

    def _count(self, launch: Launch) -> Path:
        return self._directory / f"{launch.key.name}.runs"

    def _gate(self, launch: Launch) -> Path:
        return self._directory / f"{launch.key.name}.gate"

    def _pids(self, launch: Launch) -> list[int]:
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if _bears(path, launch.key.text)]


def _bears(environ: Path, key: str) -> bool:
    try:
        return f"{MARK}={key}".encode() in environ.read_bytes().split(b"\0")
    except OSError:
        return False
