"""Git repositories for tests: made from a mapping of files or from a folder, with a fixed author and time."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

_IDENTITY = {
    "GIT_AUTHOR_NAME": "Ann Author",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_AUTHOR_DATE": "2024-05-01T12:00:00+00:00",
    "GIT_COMMITTER_NAME": "Ann Author",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
    "GIT_COMMITTER_DATE": "2024-05-01T12:00:00+00:00",
}


def git(path: Path, *arguments: str) -> str:
    """Run git in `path` and return what it printed, without the last line end."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=path,
        env={**os.environ, **_IDENTITY},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.rstrip("\n")


def make_repository(path: Path, files: Mapping[str, str], *, message: str = "Add everything") -> Path:
    """Make a repository at `path` with one commit on `main` that holds `files` (path -> text)."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    write_files(path, files)
    commit(path, message)
    return path


def write_files(path: Path, files: Mapping[str, str]) -> None:
    """Write `files` (path -> text) below `path`; what begins with `#!` may be executed."""
    for name, text in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if text.startswith("#!"):
            file.chmod(0o755)


def commit(path: Path, message: str) -> str:
    """Commit all there is and return the commit's hash."""
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(path, "rev-parse", "HEAD")


def copy_example(name: str, path: Path) -> Path:
    """Make a repository at `path` with one commit that holds `examples/NAME`."""
    shutil.copytree(EXAMPLES / name, path, ignore=shutil.ignore_patterns("__pycache__"))
    git(path, "init", "--quiet", "--initial-branch=main")
    commit(path, f"Add the example {name}")
    return path
