"""Runs the `git` program, so that nothing else here has to know how it is called, bounded and stopped.

The user's own credentials, ssh configuration and agent serve as they are; what would change the meaning of a call
(`GIT_DIR` of a surrounding hook, a fsmonitor, hooks of a template) is switched off.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Final

from stretto.core.errors import DiskFullError, SourceError, StrettoError
from stretto.core.frozen import frozen
from stretto.sources.disk import FULL_HINT

KILLED_TIMEOUT_S: Final = 5.0
"""How long the pipes of a killed git are read to their end."""
LOCAL_TIMEOUT_S: Final = 120.0
"""For a call that stays on this host; a checkout of a very large tree takes seconds."""
NETWORK_TIMEOUT_S: Final = 1800.0
"""For a call that talks to a server; a server that has gone silent is noticed by `http.lowSpeedTime` long before."""

MAX_ERROR_CHARACTERS: Final = 600
_PIECE_BYTES: Final = 64 * 1024
_BOUND: Final = 'ulimit -v "$1" && ulimit -t "$2" && shift 2 && exec "$@"'
"""By a shell that becomes git: limits that were set from outside would come too late for the first allocation."""

_OPTIONS: Final = (
    "-c", "protocol.ext.allow=never",
    "-c", "core.fsmonitor=false",
    "-c", "core.hooksPath=/dev/null",
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
    "-c", "advice.detachedHead=false",
    "-c", "http.lowSpeedLimit=1000",
    "-c", "http.lowSpeedTime=60",
)  # fmt: skip

_UNWANTED: Final = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CEILING_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_DIR",
    "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE", "GIT_EXTERNAL_DIFF", "GIT_LITERAL_PATHSPECS",
)  # fmt: skip
"""Variables that tie git to another repository (a hook sets them); see `git rev-parse --local-env-vars`."""

_HINTS: Final = (
    ("dubious ownership", "the repository belongs to another user: git config --global --add safe.directory PATH"),
    ("Authentication failed", "check the credentials that git has for this host"),
    ("could not read Username", "the repository is private or does not exist: set up a credential helper or use ssh"),
    ("terminal prompts disabled", "the repository is private or does not exist: set up a credential helper or use ssh"),
    ("Permission denied (publickey", "add your key to the ssh agent, or check that it may read the repository"),
    ("Host key verification failed", "connect once with ssh by hand to accept the host's key"),
    ("Could not resolve host", "check the URL and the network"),
)


@frozen
class Bounds:
    """What a git that reads what a stranger sent may use: address space, and processor time of each of its processes."""

    memory_bytes: int
    cpu_s: int


@frozen
class Completed:
    """A git process that has ended."""

    code: int
    out: bytes
    error: str


async def run(
    *arguments: str | Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout_s: float = LOCAL_TIMEOUT_S,
    bounds: Bounds | None = None,
) -> Completed:
    """Run git and return how it ended, whatever its exit code; SourceError if it can't be run or takes too long.

    `environment` is laid over the cleaned environment of this process. A cancelled call leaves no process behind.
    """
    process = await _start_whole(arguments, cwd, environment, bounds)
    try:
        async with asyncio.timeout(timeout_s):
            out, error_output = await process.communicate(stdin)
    except TimeoutError as error:
        await _end(process)
        raise SourceError(f"a git command in {cwd or arguments[1]} did not end within {timeout_s:.0f} s") from error
    except BaseException:
        await _end(process)
        raise
    return Completed(process.returncode or 0, out, clean(error_output))


async def stream(
    *arguments: str | Path, timeout_s: float = LOCAL_TIMEOUT_S, bounds: Bounds | None = None, about: str
) -> AsyncGenerator[bytes, None]:
    """Run git and yield what it prints, piece by piece; errors as `git` has them. Closed early, it leaves no process behind."""
    process = await _start_whole(arguments, None, None, bounds)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(timeout_s):
            while piece := await process.stdout.read(_PIECE_BYTES):
                yield piece
            _, error_output = await process.communicate()
    except TimeoutError as error:
        raise SourceError(f"{about}: git did not end within {timeout_s:.0f} s") from error
    finally:
        await _end(process)
    if process.returncode:
        raise failure(about, Completed(process.returncode, b"", clean(error_output)))


async def _start_whole(
    arguments: Sequence[str | Path], cwd: Path | None, environment: Mapping[str, str] | None, bounds: Bounds | None
) -> asyncio.subprocess.Process:
    """Start git within `bounds`. Cancelled in its middle, a start would leave the helpers of git behind."""
    starting = asyncio.create_task(_start(arguments, cwd, _environment(environment), bounds), name="start git")
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await _end(await starting)
        raise


async def _start(
    arguments: Sequence[str | Path], cwd: Path | None, environment: Mapping[str, str], bounds: Bounds | None
) -> asyncio.subprocess.Process:
    program: tuple[str, ...] = ("git",)
    if bounds is not None:
        program = ("sh", "-c", _BOUND, "sh", str(bounds.memory_bytes // 1024), str(bounds.cpu_s), "git")
    try:
        return await asyncio.create_subprocess_exec(
            *program, *_OPTIONS, *map(str, arguments),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=cwd, env=environment, start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise SourceError(f"{cwd}: no such directory") from error
        raise SourceError("the program git is not installed", hint="install git 2.36 or newer") from error
    except OSError as error:
        raise SourceError(f"git can't be run in {cwd}: {error.strerror}") from error


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a git that was not waited for, with its helpers, and close its pipes; it may have ended meanwhile."""
    if process.returncode is None:
        _kill(process.pid)
    try:
        async with asyncio.timeout(KILLED_TIMEOUT_S):
            await process.communicate()  # unlike wait, to the end of its pipes, which are closed then
    except TimeoutError:
        pass  # somebody else holds them open


async def git(
    *arguments: str | Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout_s: float = LOCAL_TIMEOUT_S,
    bounds: Bounds | None = None,
    about: str,
) -> bytes:
    """Run git and return what it printed; an error that opens with `about` if it failed."""
    done = await run(*arguments, cwd=cwd, environment=environment, stdin=stdin, timeout_s=timeout_s, bounds=bounds)
    if done.code != 0:
        raise failure(about, done)
    return done.out


def failure(about: str, done: Completed) -> StrettoError:
    """Return the error for a git process that failed, with a hint where the cause is a well-known one.

    DiskFullError where there was no room; SourceError else.
    """
    if os.strerror(errno.ENOSPC) in done.error:
        return DiskFullError(f"{about}: {done.error}", hint=FULL_HINT)
    hint = next((hint for text, hint in _HINTS if text in done.error), None)
    return SourceError(f"{about}: {done.error or f'git ended with exit code {done.code}'}", hint=hint)


def clean(output: bytes) -> str:
    """Return git's error text without prefixes and credentials, cut to what a person reads."""
    text = output.decode("utf-8", "replace").strip()
    text = re.sub(r"(?m)^(fatal|error|remote): ?", "", text)
    text = re.sub(r"//[^/@\s]+@", "//***@", text)
    text = re.sub(r"\s*\n\s*", "; ", text)
    return text if len(text) <= MAX_ERROR_CHARACTERS else f"{text[:MAX_ERROR_CHARACTERS]} …"


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    return {**kept, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", **(extra or {})}


def _kill(process_group: int) -> None:
    try:
        os.killpg(process_group, signal.SIGKILL)  # ssh and the remote helpers are in the same session
    except ProcessLookupError:
        pass
