"""What an attempt is to the engine, and what the engine's words about its end mean. Pure: no request is made here."""

from __future__ import annotations

import hashlib
import json
import re
import signal
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from stretto.core.events import Handle, Outcome
from stretto.core.frozen import frozen
from stretto.core.ports import Launch
from stretto.core.spec import AttemptKey
from stretto.core.states import Reason, Status
from stretto.drivers.docker.settings import DockerSettings
from stretto.drivers.docker.wrapper import COMMAND, NOT_RELEASED_EXIT, RAN_BEFORE_EXIT, WORKSPACE

LABEL: Final = "dev.stretto."
INSTALLATION: Final = LABEL + "installation"
KEY: Final = LABEL + "key"
DIRECTORY: Final = LABEL + "directory"
DIGEST: Final = LABEL + "digest"
"""What the container was made from; a prepared one that differs from what is to start is made anew."""

CPU_PERIOD: Final = 1_000_000_000
"""The engine counts processors in billionths."""
DROPPED_CAPABILITIES: Final = ("MKNOD", "NET_RAW")
"""Of the engine's default set: device nodes are not a job's to make, and raw packets would let it pose as its neighbours."""
NO_ROTATION: Final = {
    "local": {"max-size": "1024g", "max-file": "1", "compress": "false"},
    "json-file": {"max-size": "-1", "max-file": "1"},
}
"""Log options by driver; without them `local` keeps the last 100 MB only."""
SIGNAL_BASE: Final = 128
EXPLANATIONS: Final = {
    125: "a wrapped command could not be set up",
    126: "a command is there but can't be executed",
    127: "a command was not found",
}
ENGINE_GONE_CODES: Final = frozenset({NOT_RELEASED_EXIT, RAN_BEFORE_EXIT, 255})
"""Exit codes of a container whose script left none: the wrapper's own, and what the engine says after it went down itself."""


@frozen
class Place:
    """Where an attempt is: the container's (and volume's) name, and the attempt's folder on this host."""

    key: AttemptKey
    name: str
    directory: Path

    @property
    def control(self) -> Path:
        """The folder that a container of a local engine has as `/stretto`."""
        return self.directory / "control"

    @property
    def released(self) -> Path:
        """A file that says that the gate was opened, or was about to be."""
        return self.directory / "released"

    @property
    def tidier(self) -> str:
        """The name of the container that does root's work on the attempt's files."""
        return f"{self.name}-root"

    @classmethod
    def of(cls, key: AttemptKey, directory: Path) -> Place:
        """Return the place of the attempt with this key."""
        return cls(key, key.name, directory)

    @classmethod
    def read(cls, handle: Handle) -> Place:
        """Return the place that a handle means."""
        key = AttemptKey.parse(handle.key)
        return cls(key, str(handle.ref.get("container", key.name)), Path(handle.ref["directory"]))

    def handle(self) -> Handle:
        """Return the handle, which is the same whoever makes it."""
        return Handle("docker", self.key.text, {"container": self.name, "directory": str(self.directory)})


def labels_for(place: Place, installation: str) -> dict[str, str]:
    """Return the labels of everything that is made for the attempt."""
    return {
        INSTALLATION: installation,
        LABEL + "run": place.key.run_id,
        LABEL + "job": place.key.job,
        LABEL + "attempt": str(place.key.number),
        KEY: place.key.text,
        DIRECTORY: str(place.directory),
    }


def handle_from_labels(labels: Mapping[str, str]) -> Handle | None:
    """Return the handle of the attempt that something with these labels was made for, None where they are not ours."""
    key, directory = labels.get(KEY), labels.get(DIRECTORY)
    if key is None or directory is None:
        return None
    return Place.of(AttemptKey.parse(key), Path(directory)).handle()


def body_for(
    launch: Launch,
    settings: DockerSettings,
    *,
    user: str,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """Return the body of the request that creates the attempt's container (`POST /containers/create`), without mounts."""
    image = launch.job.container.image if launch.job.container else ""
    host: dict[str, Any] = {
        "Init": False,  # the wrapper does an init's work; see wrapper.py
        "SecurityOpt": ["no-new-privileges"],
        "CapDrop": list(DROPPED_CAPABILITIES),
        "PidsLimit": settings.pids_limit,
        "NetworkMode": settings.network,
        "LogConfig": {"Type": settings.log_driver, "Config": NO_ROTATION.get(settings.log_driver, {})},
        "RestartPolicy": {"Name": "no"},
        "ReadonlyRootfs": settings.read_only,
    }
    if settings.read_only:
        host["Tmpfs"] = {"/tmp": ""}
    if settings.memory_bytes is not None:
        host |= {"Memory": settings.memory_bytes, "MemorySwap": settings.memory_bytes}
    if settings.cpus is not None:
        host["NanoCpus"] = round(settings.cpus * CPU_PERIOD)
    return {
        "Image": image,
        "Entrypoint": list(COMMAND),
        "Cmd": [],
        "User": user,
        "WorkingDir": WORKSPACE,
        "Env": [f"{name}={value}" for name, value in launch.variables.items()],
        "Labels": dict(labels),
        "Healthcheck": {"Test": ["NONE"]},
        "OpenStdin": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": host,
    }


def digest_of(body: Mapping[str, Any], files: Mapping[str, bytes], lowers: Sequence[Path]) -> str:
    """Return what tells two ways to start an attempt apart. Secrets in it can't be had back from it."""
    text = json.dumps([body, {name: data.hex() for name, data in files.items()}, [str(path) for path in lowers]])
    return hashlib.sha256(text.encode()).hexdigest()


def outcome_of(
    state: Mapping[str, Any], *, code: int | None, started_at: datetime | None, ended_at: datetime | None
) -> Outcome:
    """Return how an attempt ended, from the engine's `State` of its container and the exit code its script left, if any."""
    ended_at = ended_at or parse_time(str(state.get("FinishedAt", "")))
    if code == 0:
        return Outcome(Status.SUCCESS, 0, started_at=started_at, ended_at=ended_at)
    final, reason, message = _failure(state, code)
    return Outcome(Status.FAILED, final, reason, message, started_at, ended_at)


def _failure(state: Mapping[str, Any], code: int | None) -> tuple[int | None, Reason, str]:
    engine_code = int(state.get("ExitCode", 0))
    final = engine_code if code is None else code
    if state.get("OOMKilled"):
        return final, Reason.OOM, "the job was killed for want of memory"
    if code is None and (engine_code == 0 or engine_code in ENGINE_GONE_CODES):
        detail = f": {state['Error']}" if state.get("Error") else ""
        return None, Reason.LOST, f"the container ended without the script's exit code{detail}"
    if (name := signal_name(final)) is not None:
        return final, Reason.KILLED, f"the job was killed by {name}"
    explanation = f" ({EXPLANATIONS[final]})" if final in EXPLANATIONS else ""
    return final, Reason.EXIT_CODE, f"the script ended with exit code {final}{explanation}"


def lost(message: str) -> Outcome:
    """Return the outcome of an attempt that nothing knows any more."""
    return Outcome(Status.FAILED, None, Reason.LOST, message)


def signal_name(code: int) -> str | None:
    """Return the signal that an exit code of a shell stands for (128 + number)."""
    try:
        return signal.Signals(code - SIGNAL_BASE).name
    except ValueError:
        return None


def parse_time(text: str) -> datetime | None:
    """Return a time as the engine writes it (RFC 3339 with nanoseconds); None for its zero time."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,6})?\d*(Z|[+-]\d\d:\d\d)", text)
    if match is None or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(f"{match[1]}{match[2] or ''}{match[3].replace('Z', '+00:00')}")
