"""Tells what a person's text for a repository means: a local path or a URL of a transport that is allowed.

Only text is looked at here, never the disk or the network.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from stretto.core.errors import SourceError
from stretto.core.frozen import frozen

_TRANSPORTS = "a local path, file://, https://, http://, ssh:// or user@host:path"


@frozen
class Uploaded:
    """A pack that somebody sent (its SHA-256) and the one commit in it (full hash)."""

    digest: str
    commit: str


@frozen
class Address:
    """Where a repository is.

    `repository` is its canonical name, which git can fetch from and which holds no credentials. `path` is set for a
    local one. `username` and `password` are what the URL of a remote one held; they go to git by its environment only.
    `uploaded` is set where the commit was sent to us: `repository` is then what people call it, and is never contacted.
    """

    repository: str
    path: Path | None = None
    username: str | None = None
    password: str | None = None
    uploaded: Uploaded | None = None

    @property
    def is_local(self) -> bool:
        """Whether the repository is on this host's file system."""
        return self.path is not None

    @property
    def slug(self) -> str:
        """A file name for what is kept of this repository: readable, and different for different repositories."""
        return slug_of(self.repository) if self.uploaded is None else f"upload-{self.uploaded.digest}"

    def environment(self) -> dict[str, str]:
        """Return variables that give git the credentials of the URL, seen neither in a process list nor in a file."""
        if self.username is None:
            return {}
        parts = urlsplit(self.repository)
        section = f"credential.{parts.scheme}://{parts.netloc}"
        settings = [(f"{section}.username", self.username)]
        if self.password is not None:
            script = (
                '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$STRETTO_GIT_USERNAME" '
                '"$STRETTO_GIT_PASSWORD"; true; }; f'
            )
            # The empty value makes git forget the helpers set up before, which would answer first.
            settings += [(f"{section}.helper", ""), (f"{section}.helper", script)]
        first = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
        variables = {"GIT_CONFIG_COUNT": str(first + len(settings))}
        for number, (name, value) in enumerate(settings, first):
            variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        return variables | {"STRETTO_GIT_USERNAME": self.username, "STRETTO_GIT_PASSWORD": self.password or ""}


def slug_of(repository: str) -> str:
    """Return the file name for what is kept of the repository with this canonical name."""
    last = repository.rstrip("/").rpartition("/")[2].rpartition(":")[2].removesuffix(".git")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip(".-")[:40] or "repository"
    return f"{name}-{hashlib.sha256(repository.encode()).hexdigest()[:12]}"


def parse(reference: str | Path, cwd: Path) -> Address:
    """Return what `reference` means to somebody who is in `cwd`; SourceError if it is no repository's address."""
    if isinstance(reference, Path):
        return _local(reference, cwd)
    if not reference or reference != reference.strip() or any(ord(c) < 32 or ord(c) == 127 for c in reference):
        raise SourceError(f"{reference!r} is no address of a repository", hint=f"give {_TRANSPORTS}")
    if reference.startswith("-"):
        raise SourceError(
            f"{reference!r} begins with '-'", hint="an option is not an address; a path may begin with './'"
        )
    if re.match(r"[A-Za-z0-9+.-]+::", reference):
        raise SourceError(
            f"{reference!r}: a remote helper runs commands and is not allowed", hint=f"give {_TRANSPORTS}"
        )
    if "://" in reference:
        return _url(reference, cwd)
    if (match := re.match(r"([^/:]+):(.*)", reference)) and not (cwd / reference).exists():
        return _scp_like(reference, match[1], match[2])
    return _local(Path(reference), cwd)


def _local(path: Path, cwd: Path) -> Address:
    try:
        whole = (cwd / path.expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"{str(path)!r} is no usable path: {error}") from error
    if not str(whole).isprintable():  # line breaks, and bytes that are no UTF-8, can't go on record
        raise SourceError(f"{str(whole)!r} has characters that can't be shown", hint="rename the directory")
    return Address(str(whole), whole)


def _url(reference: str, cwd: Path) -> Address:
    try:
        parts = urlsplit(reference)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise SourceError(f"{_without_password(reference)!r} is no URL: {error}") from error
    scheme = parts.scheme.lower()
    shown = _without_password(reference)
    if scheme == "file":
        if host not in ("", "localhost"):
            raise SourceError(
                f"{shown!r} names the host {host!r}", hint="a file:// URL has three slashes: file:///path"
            )
        return _local(Path(unquote(parts.path)), cwd)
    if scheme not in ("http", "https", "ssh"):
        raise SourceError(f"{shown!r}: the transport {scheme!r} is not allowed", hint=f"give {_TRANSPORTS}")
    if not host or host.startswith("-") or not parts.path.strip("/") or (parts.username or "").startswith("-"):
        raise SourceError(f"{shown!r} names no repository on a host")
    netloc = f"[{host}]" if ":" in host else host
    netloc = netloc if port is None else f"{netloc}:{port}"
    path = parts.path.rstrip("/")
    if scheme == "ssh":
        user = f"{parts.username}@" if parts.username else ""
        return Address(urlunsplit((scheme, user + netloc, path, "", "")))
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    return Address(urlunsplit((scheme, netloc, path, "", "")), username=username, password=password)


def _scp_like(reference: str, host: str, path: str) -> Address:
    machine = host.rpartition("@")[2]
    if not path or not machine or machine.startswith("-") or path.startswith("-"):
        raise SourceError(f"{reference!r} names no repository on a host", hint=f"give {_TRANSPORTS}")
    return Address(reference.rstrip("/"))


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", url)
