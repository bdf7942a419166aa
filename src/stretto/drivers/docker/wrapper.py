"""The script of an attempt as files, run by the image's own `/bin/sh`.

The job's lines go into a file as they are, one after the other; nothing here joins or quotes them. Around them is a wrapper, the
container's first process, which

* waits at the gate: one line on its standard input, so that a container may be started before its job is due. The engine keeps
  that input open and what was written to it; no file is polled and no wake-up is lost. An end of the input (the engine went
  down) is not that line;
* takes the token `started`, which can be taken once, so that no restart of a container runs a script twice;
* joins both outputs into one stream, runs `main` in one shell with `set -e`, then `after`, and writes the exit code of `main`
  to `exit`.

The wrapper is the container's process 1, without an init beneath: a shell that waits for a child reaps orphans, a signal for the
job goes to its processes directly (see `STOP_COMMAND`), and the kernel ends what is left when the wrapper does.
Works in dash, bash and BusyBox's ash; uses nothing but the shell's own commands, so that an image needs no other program.
"""

from __future__ import annotations

import io
import posixpath
import secrets
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from stretto.core.errors import DriverError
from stretto.core.ports import Tree
from stretto.core.spec import JobSpec, Script
from stretto.core.states import Reason

CONTROL: Final = "/stretto"
"""Where the files of this module are in the container."""
WORKSPACE: Final = "/workspace"
"""Where the tree is in the container."""
COMMAND: Final = ("/bin/sh", f"{CONTROL}/run")
STOP_COMMAND: Final = ("/bin/sh", "-c", "kill -TERM -1")
"""Run beside the wrapper: TERM to every process of the container but the first, as far as the job's user may."""
GATE_LINE: Final = b"\n"

NOT_RELEASED_EXIT: Final = 120
"""The wrapper's exit code when its input ended before the gate was opened; no line of the script ran."""
RAN_BEFORE_EXIT: Final = 121
"""The wrapper's exit code when the token was taken already."""

# The wrapper's own words (a shell says "Killed" when its child was) are not the job's output and go nowhere. The parentheses are
# for shells that redirect themselves while such a child runs.
_RUN: Final = f"""\
exec 2>/dev/null
read -r _ || exit {NOT_RELEASED_EXIT}
exec </dev/null
(set -C; : >{CONTROL}/started) || exit {RAN_BEFORE_EXIT}
read -r directory <{CONTROL}/directory
if cd "$directory" 2>&1; then
    (exec /bin/sh -e {CONTROL}/main 2>&1)
    code=$?
    if [ -f {CONTROL}/after ]; then (exec /bin/sh -e {CONTROL}/after 2>&1); fi
else
    code=1
fi
echo "$code" >{CONTROL}/exit
exit "$code"
"""


def files_for(job: JobSpec, tree: Tree | None) -> dict[str, bytes]:
    """Return the control files by name; DriverError where the job can't be run by a shell."""
    if job.script is None:
        raise DriverError(f"job {job.name!r} has no script to run", reason=Reason.START_FAILED)
    files = {
        "run": _RUN.encode(),
        "directory": working_directory(job, tree).encode() + b"\n",
        "main": _lines((*job.script.before, *job.script.main)),
    }
    return files | _after(job.script)


def working_directory(job: JobSpec, tree: Tree | None) -> str:
    """Return the absolute directory the script starts in; DriverError where the tree has none such."""
    inner = posixpath.normpath(posixpath.join(WORKSPACE, job.working_directory or "."))
    path = posixpath.relpath(inner, WORKSPACE)
    outside = path == ".." or path.startswith("../") or "\n" in path or "\0" in path
    if outside or not (path == "." or _is_directory(tree, path)):
        raise DriverError(
            f"job {job.name!r}: its working_directory {job.working_directory!r} is no directory of the tree",
            reason=Reason.START_FAILED,
            hint="give a path relative to the repository's root",
        )
    return inner


def _is_directory(tree: Tree | None, path: str) -> bool:
    """Whether the first layer that has `path` has a directory there; through links the shell itself finds out."""
    for lower in () if tree is None else tree.lowers:
        place = lower / path
        if place.is_symlink() or any(parent.is_symlink() for parent in place.parents if lower in parent.parents):
            return True
        if place.exists():
            return place.is_dir()
    return False


def write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write the control files where a container can have them as `CONTROL`, whatever its user. Blocks.

    The folder is open to all; that above it is not (see `driver.py`), so only the container's own user gets in.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o777)
    for name, data in files.items():
        partial = directory / f"{name}.{secrets.token_hex(4)}"
        partial.write_bytes(data)
        partial.chmod(0o644)
        partial.replace(directory / name)  # whole at any time: another orchestrator may be writing the same


def pack_files(files: Mapping[str, bytes]) -> Callable[[IO[bytes]], None]:
    """Return what writes the control files as a tar archive for `/`, for an engine that can't see this host's files."""

    def pack(spool: IO[bytes]) -> None:
        with tarfile.open(fileobj=spool, mode="w") as archive:
            folder = tarfile.TarInfo(CONTROL.lstrip("/"))
            folder.type, folder.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(folder)
            for name, data in files.items():
                info = tarfile.TarInfo(f"{CONTROL}/{name}".lstrip("/"))
                info.size, info.mode = len(data), 0o644
                archive.addfile(info, io.BytesIO(data))

    return pack


def _after(script: Script) -> dict[str, bytes]:
    return {"after": _lines(script.after)} if script.after else {}


def _lines(items: Sequence[str]) -> bytes:
    return b"".join(item.encode() + b"\n" for item in items)
