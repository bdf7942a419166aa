"""Make small container images from Debian packages, for machines that reach no registry.

`shell` is a static busybox; `python` is that and Debian's Python; `base` is what the Dockerfile builds on. apt fetches and
verifies the packages as it would for an empty system, they are unpacked beside each other, and the tree is handed to the
engine's import. Nothing is installed on this machine, no script of a package runs, and neither root nor the `docker`
command is needed.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from scripts import engine
from scripts.engine import Engine, EngineError

IMAGES = {
    "shell": ("stretto-shell:1", ("busybox-static",)),
    "python": ("stretto-python:1", ("busybox-static", "python3")),
    "base": (
        "stretto-base:1",
        ("busybox-static", "ca-certificates", "git", "openssh-client", "python3", "python3-venv"),
    ),
}
"""What to make: its tag, and the packages in it (with all that they depend on)."""

APT_TIMEOUT_S = 300.0
UNPACK_TIMEOUT_S = 60.0


class ImageError(Exception):
    """The image can't be made; the message says why."""


def make(name: str, address: str) -> str:
    """Make the image `name` of IMAGES unless the engine at `address` holds it, and return its tag."""
    tag, packages = IMAGES[name]
    api = Engine(address)
    try:
        if not api.has_image(tag):
            repository, _, version = tag.partition(":")
            api.call("POST", "/images/create", build(packages), fromSrc="-", repo=repository, tag=version)
            if not api.has_image(tag):  # an import that fails half-way still answers 200
                raise ImageError(f"the engine took {tag} but does not list it")
    except EngineError as error:
        raise ImageError(str(error)) from error
    finally:
        api.close()
    return tag


def build(packages: tuple[str, ...]) -> bytes:
    """Return a root file system with `packages`, and what they depend on, as a tar."""
    with tempfile.TemporaryDirectory(prefix="stretto-image-") as directory:
        tree = Path(directory, "tree")
        for package in _fetch(packages, Path(directory)):
            _run("dpkg-deb", "--extract", str(package), str(tree), timeout_s=UNPACK_TIMEOUT_S)
        _furnish(tree)
        return pack(tree)


def pack(tree: Path) -> bytes:
    """Return `tree` as a tar whose files belong to root and bear no time, so that the same tree gives the same bytes."""

    def normal(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = 0
        return entry

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(tree.iterdir()):
            archive.add(path, path.name, filter=normal)
    return buffer.getvalue()


def _fetch(packages: tuple[str, ...], directory: Path) -> list[Path]:
    """Download `packages` and what they depend on, and return the files."""
    status, archives = directory / "status", directory / "archives"
    status.touch()  # as if nothing were installed
    (archives / "partial").mkdir(parents=True)
    fetch = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "--download-only"]
    for option in (f"Dir::State::status={status}", f"Dir::Cache::archives={archives}", "Debug::NoLocking=1"):
        fetch += ["--option", option]
    if os.geteuid() == 0:
        fetch += ["--option", "APT::Sandbox::User=root"]  # the directory is ours alone; apt would warn
    try:
        _run(*fetch, *packages, timeout_s=APT_TIMEOUT_S)
    except ImageError:
        if os.geteuid() != 0:
            raise
        _run("apt-get", "update", "--quiet", timeout_s=APT_TIMEOUT_S)  # a fresh machine has no package lists yet
        _run(*fetch, *packages, timeout_s=APT_TIMEOUT_S)
    return sorted(archives.glob("*.deb"))


def _furnish(tree: Path) -> None:
    """Add what packages leave to their scripts: busybox under each of its names, the usual folders, users and hosts."""
    busybox = tree / "bin/busybox"
    for name in _run(str(busybox), "--list-full", timeout_s=UNPACK_TIMEOUT_S).split():
        path = tree / name
        if not path.exists() and not path.is_symlink():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to("/bin/busybox")
    for name in ("etc", "proc", "sys", "dev", "root", "tmp", "var/tmp"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (tree / name).chmod(0o1777)
    bundle = Path("etc/ssl/certs/ca-certificates.crt")  # a script of ca-certificates would make it
    if (tree / "usr/share/ca-certificates").exists() and ("/" / bundle).exists():
        (tree / bundle).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile("/" / bundle, tree / bundle)
    (tree / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n"
    )
    (tree / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")


def _run(*command: str, timeout_s: float) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=True, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise ImageError(
            f"{command[0]} is missing: images are made from Debian packages on Debian or Ubuntu"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{command[0]} took more than {timeout_s:.0f} s") from error
    except subprocess.CalledProcessError as error:
        raise ImageError(f"{' '.join(command[:2])} failed: {error.stderr.strip()[-1000:]}") from error
    return done.stdout


def main() -> int:
    """Make the image named on the command line and print its tag."""
    parser = argparse.ArgumentParser(prog="scripts/image", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=IMAGES)
    name = parser.parse_args().name
    address = engine.find()
    if address is None:
        sys.stderr.write("scripts/image: no Docker engine answers; start one with: scripts/services up docker\n")
        return 1
    try:
        sys.stdout.write(make(name, address) + "\n")
    except ImageError as error:
        sys.stderr.write(f"scripts/image: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
