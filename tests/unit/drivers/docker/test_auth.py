"""Credentials of the user's own Docker configuration."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from stretto.drivers.docker.auth import HUB, credentials, registry_of


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("busybox", HUB),
        ("team/app:1", HUB),
        ("docker.io/library/busybox", HUB),
        ("registry.example/app", "registry.example"),
        ("localhost:5000/app@sha256:00", "localhost:5000"),
        ("localhost/app", "localhost"),
    ],
)
def test_registry_is_that_of_the_name(image: str, registry: str) -> None:
    """A first part with a dot or colon, or localhost, is a registry; anything else is on the hub."""
    assert registry_of(image) == registry


def environ_with(tmp_path: Path, config: Any) -> dict[str, str]:
    """Return an environment whose Docker configuration is `config`."""
    (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}


def helper(tmp_path: Path, name: str, body: str) -> None:
    """Make the credential helper `name`."""
    path = tmp_path / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


async def test_credentials_come_from_auths(tmp_path: Path) -> None:
    """An entry holds user and password; one without a match gives none."""
    auth = base64.b64encode(b"me:pass:word").decode()
    environ = environ_with(tmp_path, {"auths": {"https://registry.example": {"auth": auth}}})
    assert await credentials("registry.example/app", environ) == {
        "username": "me",
        "password": "pass:word",
        "serveraddress": "registry.example",
    }
    assert await credentials("other.example/app", environ) is None


async def test_credentials_come_from_a_helper(tmp_path: Path) -> None:
    """The registry's own helper is asked, with the registry on its input."""
    environ = environ_with(tmp_path, {"credHelpers": {"registry.example": "own"}, "credsStore": "absent"})
    helper(tmp_path, "own", 'read r; printf \'{"Username":"<token>","Secret":"%s-token"}\' "$r"')
    assert await credentials("registry.example/app", environ) == {
        "identitytoken": "registry.example-token",
        "serveraddress": "registry.example",
    }


@pytest.mark.parametrize("body", ["exit 1", "echo junk", "echo '[]'"])
async def test_helper_that_fails_means_no_credentials(tmp_path: Path, body: str) -> None:
    """A helper that has none, or speaks nonsense, leaves the pull without credentials."""
    environ = environ_with(tmp_path, {"credsStore": "own"})
    helper(tmp_path, "own", body)
    assert await credentials("registry.example/app", environ) is None


@pytest.mark.parametrize(
    "config", ["", "[]", "{", '{"auths": []}', '{"auths": {"r.example": {"auth": "%%"}}}', '{"credsStore": "absent"}']
)
async def test_damaged_configuration_means_no_credentials(tmp_path: Path, config: str) -> None:
    """Whatever the file holds, the pull is tried without."""
    assert await credentials("r.example/app", environ_with(tmp_path, config)) is None
