"""Which repositories somebody who calls a server may name: those of other hosts, and what an administrator has set free.

A path of this host would let a caller read what the server's user can; a transport such as `ext::` would let it run commands.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from stretto.core.errors import InputError, SourceError
from stretto.sources.address import Address, parse

NOWHERE: Final = Path("/dev/null/nowhere")
"""A directory in which nothing exists: a text is never a path relative to where the server was started."""
_HINT: Final = "give https://, http://, ssh:// or user@host:path"


def permitted(repository: str, *, local_root: Path | None) -> str:
    """Return the address in its plain form; SourceError. Touches the disk for a local path only, to see where links lead."""
    try:
        address = parse(repository, NOWHERE)
    except SourceError as error:
        raise SourceError(error.message, hint=_HINT) from error
    if address.path is not None:
        return _local(repository, address.path, local_root)
    if address.password is not None:
        raise SourceError(
            "the repository's address has a password in it, which would be kept with the run",
            hint="give git on the conductors a credential helper, and leave the password out",
        )
    if any(part in (".", "..") for part in _path(address).split("/")):
        raise SourceError("the repository's address has '.' or '..' in its path", hint="write the path it leads to")
    return address.repository


def _path(address: Address) -> str:
    """Return the path within the host, with nothing in it that git or a server would decode again."""
    rest = re.sub(r"^[a-z]+://", "", address.repository).replace("\\", "/")
    while (plain := unquote(rest)) != rest:
        rest = plain
    return rest


def _local(repository: str, path: Path, local_root: Path | None) -> str:
    if local_root is None or not (repository.startswith("/") or repository.lower().startswith("file://")):
        raise SourceError(f"{repository!r} is a path on the server, and none are allowed", hint=_HINT)
    try:
        inside = path.is_relative_to(local_root.resolve(strict=True))
    except OSError as error:
        raise InputError("the server's directory for local repositories can't be read") from error
    if not inside:
        raise SourceError(f"{repository!r} is not in the directory whose repositories are allowed", hint=_HINT)
    return str(path)
