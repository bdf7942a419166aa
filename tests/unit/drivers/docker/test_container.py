"""What a container's end means."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stretto.core.ports import Launch
from stretto.core.spec import AttemptKey, ContainerSpec, JobSpec, Script
from stretto.core.states import Reason, Status
from stretto.drivers.docker.container import (
    Place,
    body_for,
    digest_of,
    handle_from_labels,
    labels_for,
    outcome_of,
    parse_time,
)
from stretto.drivers.docker.settings import DockerSettings

KEY = AttemptKey("r1", "build/ü", 2)


@pytest.mark.parametrize(
    ("state", "code", "exit_code", "reason", "word"),
    [
        ({"ExitCode": 3}, 3, 3, Reason.EXIT_CODE, "exit code 3"),
        ({"ExitCode": 126}, 126, 126, Reason.EXIT_CODE, "can't be executed"),
        ({"ExitCode": 127}, 127, 127, Reason.EXIT_CODE, "not found"),
        ({"ExitCode": 125}, 125, 125, Reason.EXIT_CODE, "set up"),
        ({"ExitCode": 255}, 255, 255, Reason.EXIT_CODE, "255"),
        ({"ExitCode": 137, "OOMKilled": True}, None, 137, Reason.OOM, "memory"),
        ({"ExitCode": 1, "OOMKilled": True}, 1, 1, Reason.OOM, "memory"),
        ({"ExitCode": 137}, None, 137, Reason.KILLED, "SIGKILL"),
        ({"ExitCode": 143}, 143, 143, Reason.KILLED, "SIGTERM"),
        ({"ExitCode": 255, "Error": "the shim died"}, None, None, Reason.LOST, "the shim died"),
        ({"ExitCode": 120}, None, None, Reason.LOST, "without"),
        ({"ExitCode": 0}, None, None, Reason.LOST, "without"),
    ],
)
def test_outcome_names_the_cause(
    state: dict[str, Any], code: int | None, exit_code: int | None, reason: Reason, word: str
) -> None:
    """Exit codes, signals, want of memory and a vanished script each have their reason and sentence."""
    outcome = outcome_of(state, code=code, started_at=None, ended_at=None)
    assert (outcome.status, outcome.exit_code, outcome.reason) == (Status.FAILED, exit_code, reason)
    assert word in (outcome.message or "")


def test_outcome_believes_a_recorded_success() -> None:
    """A script that left exit code 0 succeeded, whatever became of its container afterwards."""
    outcome = outcome_of({"ExitCode": 137, "OOMKilled": True}, code=0, started_at=None, ended_at=None)
    assert (outcome.status, outcome.exit_code, outcome.reason) == (Status.SUCCESS, 0, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-06T07:08:09.123456789Z", datetime(2024, 5, 6, 7, 8, 9, 123456, UTC)),
        ("2024-05-06T07:08:09Z", datetime(2024, 5, 6, 7, 8, 9, 0, UTC)),
        ("2024-05-06T09:08:09.5+02:00", datetime(2024, 5, 6, 7, 8, 9, 500000, UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_time_of_the_engine_is_read(text: str, expected: datetime | None) -> None:
    """The engine's times have up to nine digits of fraction, and a zero that means none."""
    assert parse_time(text) == expected


def test_handle_is_the_same_from_key_and_labels() -> None:
    """Whoever makes the handle of an attempt makes the same one."""
    place = Place.of(KEY, Path("/state/attempts/x"))
    assert handle_from_labels(labels_for(place, "here")) == place.handle()
    assert Place.read(place.handle()) == place
    assert handle_from_labels({"other": "label"}) is None


def launch_with(**job: Any) -> Launch:
    """Return a launch of a job with these fields."""
    spec = JobSpec("build/ü", "test", "docker", script=Script(("true",)), container=ContainerSpec("image:1"), **job)
    return Launch(KEY, spec, Path("/state/attempts/x"), None, {"A": "b c"})


def test_body_has_limits_and_no_privileges() -> None:
    """Memory without swap, processors, processes, no new privileges, fewer capabilities, unrotated logs."""
    settings = DockerSettings(memory_bytes=1 << 28, cpus=1.5, pids_limit=99, read_only=True, network="none")
    body = body_for(launch_with(), settings, user="job", labels={"l": "x"})
    host = body["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (
        1 << 28,
        1 << 28,
        1_500_000_000,
        99,
    )
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert set(host["CapDrop"]) == {"NET_RAW", "MKNOD"}
    assert "Privileged" not in host
    assert "Binds" not in host
    assert host["ReadonlyRootfs"] is True
    assert host["NetworkMode"] == "none"
    assert host["LogConfig"]["Type"] == "local"
    assert (body["Env"], body["User"], body["Image"]) == (["A=b c"], "job", "image:1")


def test_digest_tells_every_difference() -> None:
    """Another body, script or layer is another digest; the same is the same."""
    body = body_for(launch_with(), DockerSettings(), user="", labels={})
    digests = {
        digest_of(body, {"main": b"a"}, (Path("/l"),)),
        digest_of(body, {"main": b"a"}, (Path("/l"),)),
        digest_of(body, {"main": b"b"}, (Path("/l"),)),
        digest_of(body, {"main": b"a"}, (Path("/m"),)),
        digest_of({**body, "User": "x"}, {"main": b"a"}, (Path("/l"),)),
    }
    assert len(digests) == 4
