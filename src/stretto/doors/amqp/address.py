"""The URL of the queue: checked before it is used, and never shown with its password."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from stretto.core.errors import SettingsError

SCHEMES: Final = ("amqp", "amqps")
_HINT: Final = 'write queue = "amqp://USER:PASSWORD@HOST:5672/VHOST", with %2F for a slash within a part'


def check_url(url: str) -> str:
    """Return the URL as `mask` shows it; SettingsError, which tells nothing of it, if it leads nowhere."""
    parts = _split(url)
    if parts is None or parts.scheme not in SCHEMES or not parts.hostname:
        raise SettingsError("setting queue is no amqp:// or amqps:// URL", hint=_HINT)
    return mask(url)


def mask(url: str) -> str:
    """Return the URL with `***` for its password and without its options, where keys may be."""
    parts = _split(url)
    if parts is None or not parts.hostname:
        return "***"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    user = parts.username or ""
    login = f"{user}:***@" if parts.password else f"{user}@" if user else ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{login}{host}{port}{parts.path}"


def hide_password(text: str, url: str) -> str:
    """Return a text of another program's with `***` wherever the URL's password stands in it."""
    parts = _split(url)
    if parts is None:
        return text
    for secret in {parts.password, unquote(parts.password or "")}:
        if secret:
            text = text.replace(secret, "***")
    return text


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # is a number only when it is asked for
    except ValueError:
        return None
    return parts
