"""Credentials for registries, as the user's own Docker configuration holds them.

Source: the Docker CLI's `config.json` (`auths`, `credHelpers`, `credsStore`) and its credential helper protocol: a program
`docker-credential-NAME get` reads the registry on its standard input and prints `{"Username": …, "Secret": …}`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

HUB: Final = "https://index.docker.io/v1/"
"""What the configuration calls the registry of names without one."""
HELPER_TIMEOUT_S: Final = 30.0
"""A helper may have to ask a key ring; one that waits for a person must not hang a run."""


def registry_of(image: str) -> str:
    """Return the key under which the configuration holds the image's registry."""
    first, slash, _ = image.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return HUB
    return HUB if first in ("docker.io", "index.docker.io") else first


async def credentials(image: str, environ: Mapping[str, str]) -> dict[str, str] | None:
    """Return what the engine wants to know to pull `image` (its `AuthConfig`), None if the user has no credentials for it."""
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/")) / ".docker")
    config = await asyncio.to_thread(_read_config, folder / "config.json")
    registry = registry_of(image)
    helpers = config.get("credHelpers")
    helper = (helpers.get(registry) if isinstance(helpers, dict) else None) or config.get("credsStore")
    if isinstance(helper, str) and helper:
        found = await _ask(helper, registry, environ)
        if found is not None:
            return found
    auths = config.get("auths")
    return _from_auths(auths if isinstance(auths, dict) else {}, registry)


def encode(auth: Mapping[str, str]) -> str:
    """Return the value of the header `X-Registry-Auth`."""
    return base64.urlsafe_b64encode(json.dumps(dict(auth)).encode()).decode()


def _read_config(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("the Docker configuration can't be read; pulling without credentials", extra={"error": str(error)})
        return {}
    return data if isinstance(data, dict) else {}


def _from_auths(auths: Mapping[str, Any], registry: str) -> dict[str, str] | None:
    for name in (registry, f"https://{registry}", f"https://{registry}/v1/", f"http://{registry}"):
        entry = auths.get(name)
        if not isinstance(entry, dict):
            continue
        if entry.get("identitytoken"):
            return {"identitytoken": str(entry["identitytoken"]), "serveraddress": registry}
        try:
            user, _, password = base64.b64decode(str(entry.get("auth", ""))).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            continue
        if user:
            return {"username": user, "password": password.rstrip("\0"), "serveraddress": registry}
    return None


async def _ask(helper: str, registry: str, environ: Mapping[str, str]) -> dict[str, str] | None:
    try:
        process = await asyncio.create_subprocess_exec(
            f"docker-credential-{helper}",
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(environ),
        )
    except OSError as error:
        log.warning("a credential helper can't be run", extra={"helper": helper, "error": str(error)})
        return None
    try:
        async with asyncio.timeout(HELPER_TIMEOUT_S):
            output, _ = await process.communicate(registry.encode())
    except TimeoutError:
        log.warning("a credential helper did not answer in time", extra={"helper": helper})
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        return None  # the helper's way to say that it has none
    try:
        found = json.loads(output)
        user, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, KeyError, TypeError):
        log.warning("a credential helper's answer can't be read", extra={"helper": helper})
        return None
    if user == "<token>":
        return {"identitytoken": secret, "serveraddress": registry}
    return {"username": user, "password": secret, "serveraddress": registry}
