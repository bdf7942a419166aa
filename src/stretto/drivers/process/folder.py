"""The directory of one attempt: which files it holds, who writes them, and what they say.

    key        the attempt's key; first made, last removed; locked by whoever makes or starts the attempt    driver
    view/      the private tree, as `sources.workspace` keeps it                                           driver
    script     before and main lines; its time is when the attempt was started                             driver
    after      after lines, if any                                                                         driver
    log        all output; is there once a shim was spawned                                                script
    started    pid of the one shim that runs the script; then, in a second line, the script's exit code    shim
    killed     made before the attempt is killed                                                           driver

No more files than these, because making them is what starting a short job mostly consists of.
Nothing here is synced to disk: what could be lost with the host's power is gone with its processes as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stretto.core.spec import Script

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
        return Path(self.path, "key")

    @property
    def is_there(self) -> bool:
        """Whether there is a directory at all."""
        return os.path.exists(self.path)

    @property
    def is_started(self) -> bool:
        """Whether there is or was a shim for the attempt."""
        return os.path.exists(self.log)

    @property
    def is_taken(self) -> bool:
        """Whether a shim has taken the attempt: it runs the script, and no other ever will."""
        return os.path.exists(f"{self.path}/started")

    @property
    def started_at(self) -> datetime | None:
        """When the attempt was started, None where it was not."""
        return self._time_of("script") if self.is_started else None

    @property
    def ended_at(self) -> datetime | None:
        """When the shim last had something to say, None where it never had."""
        return self._time_of("started")

    @property
    def killed_at(self) -> datetime | None:
        """When we began to kill the attempt, None where we did not."""
        return self._time_of("killed")

    def create(self) -> None:
        """Make the directory, for its user alone. OSError."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)

    def write(self, key: str, script: Script) -> None:
        """Write key and script, before the first start. OSError."""
        self._write("key", key)
        self._write("script", _lines(script.before + script.main))
        if script.after:
            self._write("after", _lines(script.after))

    def mark_started(self) -> None:
        """Leave word of the time. OSError."""
        os.utime(f"{self.path}/script")

    def unmark_started(self) -> None:
        """Take back the log that a spawn has opened before it failed. OSError."""
        _unlink(self.log)

    def mark_killed(self) -> None:
        """Leave word that we are about to kill the attempt; without room on the disk, leave none."""
        try:
            with open(f"{self.path}/killed", "wb"):
                pass
        except OSError:
            pass

    def clear(self) -> None:
        """Delete all files but the key; the view stays. OSError."""
        for name in os.listdir(self.path):
            if name not in ("key", "view"):
                _unlink(f"{self.path}/{name}")

    def delete(self) -> None:
        """Delete the directory's files, the key last, so that what a crash leaves of it is still known as ours. OSError."""
        try:
            names = [name for name in os.listdir(self.path) if name != "key"]
        except FileNotFoundError:
            return
        for name in (*names, "key"):
            _unlink(f"{self.path}/{name}")
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            pass  # another conductor of this home was at it too

    def read_key(self) -> str | None:
        """Return the attempt's key, None where the directory is not an attempt's."""
        return self._read("key") or None

    def read_pid(self) -> int | None:
        """Return which shim has taken the attempt; None while it has not written that down."""
        return self._read_number(0)

    def read_exit_code(self) -> int | None:
        """Return the script's exit code, None where there is none (yet)."""
        return self._read_number(1)

    def _read_number(self, line: int) -> int | None:
        lines = (self._read("started") or "").split("\n")[:-1]  # what has no line end is not whole
        return int(lines[line]) if len(lines) > line else None

    def _time_of(self, name: str) -> datetime | None:
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

    def _write(self, name: str, text: str) -> None:
        with open(f"{self.path}/{name}", "wb") as file:
            file.write(text.encode(errors="surrogateescape"))


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


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _lines(parts: tuple[str, ...]) -> str:
    return "".join(part if part.endswith("\n") else f"{part}\n" for part in parts)
