"""Real git repositories in a temporary directory, apart from the configuration of whoever runs the tests."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from stretto.sources.git import Repositories


@dataclass(frozen=True)
class Repository:
    """A repository that tests commit to."""

    path: Path

    def git(self, *arguments: str | Path) -> str:
        """Run git in the repository and return what it printed."""
        done = subprocess.run(["git", *map(str, arguments)], cwd=self.path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def write(self, files: dict[str, str]) -> None:
        """Write files into the working tree."""
        for name, text in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def commit(self, message: str = "A change", **files: str) -> str:
        """Write files (a double underscore stands for a dot), commit everything and return the commit."""
        self.write({name.replace("__", "."): text for name, text in files.items()})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def _git_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = tmp_path / "gitconfig"
    configuration.write_text(
        '[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n[protocol "file"]\n\tallow = always\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def make_repository(path: Path) -> Repository:
    """Return a new repository without a commit."""
    path.mkdir(parents=True)
    repository = Repository(path)
    repository.git("init", "--quiet")
    return repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with two commits on main."""
    made = make_repository(tmp_path / "project")
    made.commit("The first", readme__txt="one\n")
    made.commit("The second\n\nWith a body.", readme__txt="two\n", pipeline__yml="name: demo\n")
    return made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home directory of Stretto's state."""
    return tmp_path / "home"


@pytest.fixture
def repositories(home: Path) -> Repositories:
    """What is tested here."""
    return Repositories(home)


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL prefix under which the local file system is a remote host: its ssh runs the command right here."""
    program = tmp_path / "ssh"
    program.write_text('#!/bin/sh\nfor command; do :; done\nexec sh -c "$command"\n')
    program.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(program))
    monkeypatch.setenv("GIT_SSH_VARIANT", "simple")
    return "ssh://git@host.example"


def files_of(tree: Path) -> dict[str, str]:
    """Return the regular files of a tree outside of .git, with their text."""
    return {
        str(path.relative_to(tree)): path.read_text()
        for path in sorted(tree.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(tree).parts
    }


def all_paths(directory: Path) -> list[str]:
    """Return every path beneath a directory that may not exist."""
    return sorted(os.path.relpath(path, directory) for path in directory.rglob("*")) if directory.exists() else []
