"""What a server is called, and what goes with its name. Looks at text only; never at disk or network."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from stretto.core.errors import SettingsError

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """A server: `url` as `normalize` gives it, `token` None where none is known. The token is in no text made of this."""

    url: str
    token: str | None = field(default=None, repr=False)

    @property
    def is_here(self) -> bool:
        """Whether it is on this host's loopback, where a proxy has no business."""
        host = urlsplit(self.url).hostname or ""
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    @property
    def is_secure(self) -> bool:
        """Whether nobody on the way can read the token."""
        return self.url.startswith("https:") or self.is_here

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or PORTS[parts.scheme]


def normalize(url: str) -> str:
    """Return the one spelling of a server's URL, without a slash at its end; SettingsError.

    A token in a URL would end up in histories and logs: a URL with credentials is refused, and not repeated.
    """
    hint = "write it like https://stretto.example.org or http://127.0.0.1:8420"
    url = url.strip()
    if url and not _is_plain(url):
        raise SettingsError("the server's URL has characters that no URL has", hint=hint)
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise SettingsError(f"the server's URL can't be read: {error}", hint=hint) from error
    if parts.username is not None or parts.password is not None:
        raise SettingsError("the server's URL has credentials in it", hint="keep the token with `stretto login`")
    if parts.scheme not in PORTS or not host:
        raise SettingsError(f"{url!r} is no URL of a server", hint=hint)
    if parts.query or parts.fragment:
        raise SettingsError(f"{url!r} has more than a host and a path", hint=hint)
    name = f"[{host}]" if ":" in host else host
    netloc = name if port in (None, PORTS[parts.scheme]) else f"{name}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))


def check_token(token: str) -> str:
    """Return the token without white space around it; SettingsError where it can't go into a header."""
    token = token.strip()
    if not token or not _is_plain(token):
        raise SettingsError("the token is empty or has characters that no token has")
    return token


def _is_plain(text: str) -> bool:
    """Say whether it is printable ASCII without spaces."""
    return all(33 <= ord(character) <= 126 for character in text)
