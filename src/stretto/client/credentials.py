"""The file of tokens that `stretto login` keeps: `credentials.toml`, a table for each server's URL, for its owner's eyes only."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from stretto.core.errors import SettingsError

FILE_NAME = "credentials.toml"
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_token(path: Path, url: str) -> str | None:
    """Return the token for the server, None where none is kept; SettingsError if the file is broken or others may read it."""
    return _read(path).get(url)


def write_token(path: Path, url: str, token: str) -> None:
    """Keep the token, in place of an earlier one for the same URL."""
    _write(path, {**_read(path), url: token})


def delete_token(path: Path, url: str) -> bool:
    """Forget the token; False where none was kept."""
    tokens = _read(path)
    if url not in tokens:
        return False
    del tokens[url]
    _write(path, tokens)
    return True


def known_servers(path: Path) -> list[str]:
    """Return the URLs that a token is kept for."""
    return sorted(_read(path))


def _read(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & OTHERS:
                raise SettingsError(f"{path} may be read by others", hint=f"chmod 600 {path}")
            data = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} can't be read: {error}") from error
    tokens = {url: table.get("token") for url, table in data.items() if isinstance(table, dict)}
    return {url: token for url, token in tokens.items() if isinstance(token, str)}


def _write(path: Path, tokens: Mapping[str, str]) -> None:
    """Replace the file as a whole; a text of JSON in plain ASCII is one of TOML too."""
    text = "\n".join(f"[{json.dumps(url)}]\ntoken = {json.dumps(tokens[url])}\n" for url in sorted(tokens))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(number, "w", encoding="ascii") as file:
                file.write(text)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SettingsError(f"{path} can't be written: {error.strerror}") from error
