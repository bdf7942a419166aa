"""The directory of one attempt: which files it holds, who writes them, and what they say.

    key        the attempt's key; makes the directory known as ours; first made, last removed      driver
    view/      the private tree, as `sources.workspace` keeps it                                   driver
    script     before and main lines                                                               driver
    after      after lines, if any                                                                 driver
    spawned    pid of the shim that `start` has spawned                                            driver
    started    pid of the one shim that runs the script                                            shim
    log        all output                                                                          script
    exit       blank lines, overwritten with the exit code                                         driver, then shim
    killed     made before the attempt is killed                                                   driver
    lock       held by whoever prepares or starts the attempt, so that there is only one           driver

Nothing here is synced to disk: what could be lost with the host's power is gone with its processes as well.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stretto.core.spec import Script

BLANK_EXIT: Final = b"\n\n\n\n"
"""Room for an exit code of three digits and its line end, taken while the disk still has some."""

SEARCH_DEPTH: Final = 3
"""How far below the attempts' directory `find_folders` looks."""


class Folder:
    """The directory of one attempt."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def log(self) -> str:
        """Where the output goes."""
        return f"{self.path}/log"

    @property
    def view(self) -> Path:
        """Where the private tree is kept."""
        return Path(self.path, "view")

    @property
    def lock(self) -> Path:
        """What a starter locks."""
        return Path(self.path, "lock")

    @property
    def is_there(self) -> bool:
        """Whether there is a directory at all."""
        return os.path.exists(self.path)

    @property
    def is_started(self) -> bool:
        """Whether there is or was a shim for the attempt."""
        return self.is_taken or os.path.exists(f"{self.path}/spawned")

    @property
    def is_taken(self) -> bool:
        """Whether a shim has taken the attempt: it runs the script, and no other ever will."""
        return os.path.exists(f"{self.path}/started")

    def create(self, key: str) -> None:
        """Make the directory and put the key into it; what is there is left alone. OSError."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        if not os.path.exists(f"{self.path}/key"):
            self._put("key", key)

    def write_scripts(self, script: Script) -> None:
        """Write what the shim needs. Safe to repeat while a shim is at work, with the same script. OSError."""
        try:
            with open(f"{self.path}/exit", "xb") as file:
                file.write(BLANK_EXIT)
        except FileExistsError:
            pass
        if script.after:
            self._put("after", _lines(script.after))
        self._put("script", _lines(script.before + script.main))

    def write_spawned(self, pid: int) -> None:
        """Tell the next orchestrator which shim was spawned; without room on the disk, the shim's own mark must do."""
        try:
            self._put("spawned", f"{pid}\n")
        except OSError:
            pass

    def mark_killed(self) -> None:
        """Leave word that we are about to kill the attempt; without room on the disk, leave none."""
        try:
            with open(f"{self.path}/killed", "wb"):
                pass
        except OSError:
            pass

    def delete(self) -> None:
        """Delete the directory's files, the key last, so that what a crash leaves of it is still known as ours. OSError."""
        try:
            names = [name for name in os.listdir(self.path) if name != "key"]
        except FileNotFoundError:
            return
        for name in (*names, "key"):
            try:
                os.unlink(f"{self.path}/{name}")
            except FileNotFoundError:
                pass
        os.rmdir(self.path)

    def read_key(self) -> str | None:
        """Return the attempt's key, None where the directory is not an attempt's."""
        return self._read("key")

    def read_pid(self) -> int | None:
        """Return which shim has taken the attempt, or is about to; None while it has not written that down."""
        return _number(self._read("started" if self.is_taken else "spawned"))

    def read_exit_code(self) -> int | None:
        """Return the script's exit code, None where there is none (yet)."""
        return _number(self._read("exit"))

    def time_of(self, name: str) -> datetime | None:
        """Return when the file was last written, None where it is not there."""
        try:
            return datetime.fromtimestamp(os.stat(f"{self.path}/{name}").st_mtime, UTC)
        except FileNotFoundError:
            return None

    def _read(self, name: str) -> str | None:
        try:
            with open(f"{self.path}/{name}", "rb") as file:
                return file.read().decode()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _put(self, name: str, text: str) -> None:
        """Make the file in one step, so that nobody ever reads half of it."""
        draft = f"{self.path}/.{name}.{threading.get_native_id()}"
        with open(draft, "wb") as file:
            file.write(text.encode(errors="surrogateescape"))
        os.replace(draft, f"{self.path}/{name}")


def find_folders(attempts: str, depth: int = SEARCH_DEPTH) -> Iterator[tuple[str, Folder]]:
    """Yield each attempt's key and directory under `attempts`."""
    try:
        with os.scandir(attempts) as entries:
            paths = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for path in paths:
        folder = Folder(path)
        if (key := folder.read_key()) is not None:
            yield key, folder
        elif depth > 1:
            yield from find_folders(path, depth - 1)


def _number(text: str | None) -> int | None:
    digits = "" if text is None else text.strip()
    return int(digits) if digits.isdigit() else None


def _lines(parts: tuple[str, ...]) -> str:
    return "".join(part if part.endswith("\n") else f"{part}\n" for part in parts)
