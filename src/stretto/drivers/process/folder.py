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

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def log(self) -> Path:
        """Where the output goes."""
        return self.path / "log"

    @property
    def view(self) -> Path:
        """Where the private tree is kept."""
        return self.path / "view"

    @property
    def is_started(self) -> bool:
        """Whether there is or was a shim for the attempt."""
        return self.is_taken or (self.path / "spawned").exists()

    @property
    def is_taken(self) -> bool:
        """Whether a shim has taken the attempt: it runs the script, and no other ever will."""
        return (self.path / "started").exists()

    def create(self, key: str) -> None:
        """Make the directory and put the key into it; what is there is left alone. OSError."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self.path / "key").exists():
            self._put("key", key)

    def write_scripts(self, script: Script) -> None:
        """Write what the shim needs. Safe to repeat while a shim is at work, with the same script. OSError."""
        try:
            with (self.path / "exit").open("xb") as file:
                file.write(BLANK_EXIT)
        except FileExistsError:
            pass
        if script.after:
            self._put("after", _lines(script.after))
        self._put("script", _lines(script.before + script.main))

    def _put(self, name: str, text: str) -> None:
        """Make the file in one step, so that nobody ever reads half of it."""
        draft = self.path / f".{name}.{threading.get_native_id()}"
        draft.write_bytes(text.encode(errors="surrogateescape"))
        draft.replace(self.path / name)

    def write_spawned(self, pid: int) -> None:
        """Tell the next orchestrator which shim was spawned; without room on the disk, the shim's own mark must do."""
        try:
            self._put("spawned", f"{pid}\n")
        except OSError:
            pass

    def mark_killed(self) -> None:
        """Leave word that we are about to kill the attempt; without room on the disk, leave none."""
        try:
            (self.path / "killed").touch()
        except OSError:
            pass

    def delete(self) -> None:
        """Delete the directory's files, the key last, so that what a crash leaves of it is still known as ours. OSError."""
        try:
            names = [entry.name for entry in os.scandir(self.path) if entry.name != "key"]
        except FileNotFoundError:
            return
        for name in (*names, "key"):
            (self.path / name).unlink(missing_ok=True)
        self.path.rmdir()

    def read_key(self) -> str | None:
        """Return the attempt's key, None where the directory is not an attempt's."""
        try:
            return (self.path / "key").read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_pid(self) -> int | None:
        """Return which shim has taken the attempt, or is about to; None while it has not written that down."""
        return self._read_number("started" if self.is_taken else "spawned")

    def read_exit_code(self) -> int | None:
        """Return the script's exit code, None where there is none (yet)."""
        return self._read_number("exit")

    def _read_number(self, name: str) -> int | None:
        try:
            text = (self.path / name).read_text().strip()
        except FileNotFoundError:
            return None
        return int(text) if text.isdigit() else None

    def time_of(self, name: str) -> datetime | None:
        """Return when the file was last written, None where it is not there."""
        try:
            return datetime.fromtimestamp((self.path / name).stat().st_mtime, UTC)
        except FileNotFoundError:
            return None


def _lines(parts: tuple[str, ...]) -> str:
    return "".join(part if part.endswith("\n") else f"{part}\n" for part in parts)


def find_folders(attempts: Path, depth: int = SEARCH_DEPTH) -> Iterator[tuple[str, Folder]]:
    """Yield each attempt's key and directory under `attempts`."""
    try:
        entries = [entry for entry in os.scandir(attempts) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for entry in entries:
        folder = Folder(Path(entry.path))
        if (key := folder.read_key()) is not None:
            yield key, folder
        elif depth > 1:
            yield from find_folders(folder.path, depth - 1)
