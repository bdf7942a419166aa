"""Images: whether the engine has one, and how it gets one."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from stretto.core.errors import DriverError, EngineUnavailableError
from stretto.core.frozen import frozen
from stretto.core.states import Reason
from stretto.drivers.docker.auth import credentials, encode
from stretto.drivers.docker.client import FOREVER, MESSAGE_LIMIT, Client, RefusedError, field
from stretto.drivers.docker.settings import PullPolicy

log = logging.getLogger(__name__)

PROGRESS_EVERY_S: Final = 2.0
"""How often a pull's progress is logged."""


@frozen
class Image:
    """An image of the engine; `user` is whom its containers run as, empty for root."""

    id: str
    user: str


class Images:
    """The images of one engine. Pulls of one image at once are one pull."""

    def __init__(self, client: Client, *, pull: PullPolicy, timeout_s: float, environ: Mapping[str, str]) -> None:
        self._client = client
        self._policy = pull
        self._timeout_s = timeout_s
        self._environ = environ
        self._known: dict[str, Image] = {}
        self._pulled_at: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def ensure(self, name: str) -> Image:
        """Return the image, pulled if the policy says so; DriverError `image_missing` or `image_pull`."""
        asked_at = time.monotonic()
        async with self._locks.setdefault(name, asyncio.Lock()):
            if self._policy == "always" and self._pulled_at.get(name, 0.0) < asked_at:
                started_at = time.monotonic()
                await self._pull(name)
                self._pulled_at[name] = started_at
                self.forget(name)
            if name not in self._known:
                self._known[name] = await self._find(name)
            return self._known[name]

    def forget(self, name: str) -> None:
        """Look for the image again next time: it may have gone or changed."""
        self._known.pop(name, None)

    async def _find(self, name: str) -> Image:
        image = await self._inspect(name)
        if image is None and self._policy == "missing":
            await self._pull(name)
            image = await self._inspect(name)
        if image is None:
            raise DriverError(
                f"the Docker engine has no image {name!r}",
                reason=Reason.IMAGE_MISSING,
                hint="pull or build it, or change the pull policy" if self._policy == "never" else None,
            )
        return image

    async def _inspect(self, name: str) -> Image | None:
        try:
            data = await self._client.call("GET", f"/images/{quote(name, safe='/:@')}/json")
        except RefusedError as error:
            if error.status == 404:
                return None
            if error.status == 400:
                raise DriverError(
                    f"{name!r} is no name of an image", reason=Reason.IMAGE_MISSING, hint="name[:tag] or name@digest"
                ) from error
            raise
        config = data.get("Config") if isinstance(data, dict) else None
        user = config.get("User") if isinstance(config, dict) else None
        return Image(id=field(data, "Id", kind=str), user=str(user or ""))

    async def _pull(self, name: str) -> None:
        auth = await credentials(name, self._environ)
        secrets = [value for key, value in (auth or {}).items() if key in ("password", "identitytoken") and value]
        log.info("pulling an image", extra={"image": name})
        started_at = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._follow_pull(name, auth)
        except TimeoutError as error:
            raise _pull_error(name, f"not done after {self._timeout_s:.0f} s", Reason.IMAGE_PULL) from error
        except RefusedError as error:
            reason = Reason.IMAGE_MISSING if error.status == 404 else Reason.IMAGE_PULL
            reason = Reason.DISK_FULL if error.reason == Reason.DISK_FULL else reason
            # The refusal may quote credentials, so it is not shown as a cause either.
            raise _pull_error(name, mask(error.message, secrets), reason) from None
        except PullFailedError as error:
            raise _pull_error(name, mask(error.message, secrets), Reason(error.reason)) from None
        log.info("pulled an image", extra={"image": name, "seconds": round(time.monotonic() - started_at, 1)})

    async def _follow_pull(self, name: str, auth: Mapping[str, str] | None) -> None:
        """Ask for the image and read the progress, whose end is the pull's; PullFailedError if it says so."""
        reference, tag = split_reference(name)
        query = {"fromImage": reference} | ({"tag": tag} if tag else {})
        headers = {} if auth is None else {"X-Registry-Auth": encode(auth)}
        response = await self._client.stream("POST", "/images/create", query=query, headers=headers, timeout_s=FOREVER)
        logged_at = time.monotonic()
        try:
            async for step in json_lines(response.chunks()):
                if "error" in step:
                    message = " ".join(str(step["error"]).split())[:MESSAGE_LIMIT]
                    full = "no space left on device" in message
                    raise PullFailedError(message, reason=Reason.DISK_FULL if full else Reason.IMAGE_PULL)
                if time.monotonic() - logged_at >= PROGRESS_EVERY_S:
                    logged_at = time.monotonic()
                    progress = " ".join(str(step.get(key, "")) for key in ("id", "status", "progress"))
                    log.info("pulling an image goes on", extra={"image": name, "progress": progress})
        finally:
            response.close()


class PullFailedError(DriverError):
    """The engine reported in the progress of a pull that it failed. Does not leave this module."""


def split_reference(name: str) -> tuple[str, str]:
    """Return repository and tag, `latest` where there is none; a digest stays with the repository."""
    if "@" in name:
        return name, ""
    head, slash, last = name.rpartition("/")
    repository, colon, tag = last.partition(":")
    return head + slash + repository, tag if colon else "latest"


def mask(text: str, secrets: Sequence[str]) -> str:
    """Return `text` without the secrets and without credentials in URLs."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return re.sub(r"(://)[^/@\s]+@", r"\1***@", text)


async def json_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """Yield the objects of a stream of lines of JSON."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield _json_object(line)
    if rest.strip():
        yield _json_object(rest)


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise EngineUnavailableError("the Docker engine reported a pull's progress in no JSON") from error
    return data if isinstance(data, dict) else {}


def _pull_error(name: str, detail: str, reason: Reason) -> DriverError:
    return DriverError(
        f"the image {name!r} can't be pulled: {detail}",
        reason=reason,
        hint="is the name right, and does it need a docker login?",
    )
