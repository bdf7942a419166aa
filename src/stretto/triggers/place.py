"""Where a repository is, whichever of its addresses one has: `https`, `ssh` and `user@host:path` name the same place.

For comparing only: nothing is ever fetched from or sent to what stands here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_SCP_LIKE = re.compile(r"(?:[^@/:]+@)?([^/:@]+):(?!//)(.+)")


@dataclass(frozen=True, slots=True)
class Place:
    """A repository: its host (empty on this one) and its path, both as forges compare them, without case and `.git`."""

    host: str
    path: str


def place_of(address: str) -> Place | None:
    """Return the place that `address` names; None if it names none."""
    if address.startswith("/"):
        return Place("", address.rstrip("/").removesuffix(".git"))
    if "://" not in address:
        match = _SCP_LIKE.fullmatch(address)
        return _remote(match[1], match[2]) if match else None
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return None
    if parts.scheme == "file":
        return place_of(unquote(parts.path))
    return _remote(host, parts.path)


def _remote(host: str, path: str) -> Place | None:
    path = path.strip("/").removesuffix(".git")
    return Place(host.lower(), path.lower()) if host and path else None
