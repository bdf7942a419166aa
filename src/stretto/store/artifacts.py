"""Artifacts: every content once, and per attempt a layer that shows its files under their paths.

    objects/ab/<SHA-256>[.x]     the bytes; `.x` where executable, as names of one file share its mode
    layers/<run>/<attempt>/…     hard links to objects, symbolic links as they were
    layers/<run>/<attempt>.json  which objects the layer is made of
    scratch/                     what is not finished yet

An object appears under its name only when it is whole and on disk. One that no layer links to is free, so a count of its
names tells whether it is in use; where the file system has no (or no more) hard links, layers hold copies, and then their lists
are searched instead. Nobody may write into a layer: it is laid under trees read-only.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from stretto.core.errors import StoreError
from stretto.core.events import Artifact
from stretto.core.ports import ArtifactFile
from stretto.core.spec import AttemptKey
from stretto.store.failure import os_error
from stretto.store.place import attempt_path, remove_tree, run_directory

_BLOCK_BYTES: Final = 1024 * 1024
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV, errno.EACCES})
"""What link(2) fails with where the file system has no hard links, or no more of one file."""
_MODES: Final = {False: 0o644, True: 0o755}


class FileArtifacts:
    """An `ArtifactStore` under one directory; several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self._objects = root / "objects"
        self._layers = root / "layers"
        self._scratch = root / "scratch"
        self._copies = root / "copies"
        """There once a layer had to hold copies."""
        self._lock = root / "lock"

    async def add(self, key: AttemptKey, files: Sequence[ArtifactFile]) -> tuple[Artifact, ...]:
        """Store the files and make them a layer of the attempt; the same attempt again replaces it. DiskFullError, StoreError."""
        return await asyncio.to_thread(self._add, key, files)

    async def layer(self, key: AttemptKey, artifacts: Sequence[Artifact]) -> Path:
        """Return the directory that holds the attempt's artifacts under their paths, made of their objects if it isn't there."""
        layer = attempt_path(self._layers, key)
        if not layer.exists():
            await asyncio.to_thread(self._rebuild, layer, artifacts)
        return layer

    async def path(self, artifact: Artifact) -> Path:
        """Return where the artifact's bytes are; StoreError if they are gone or cut short, and for a link, which has none."""
        if artifact.link is not None:
            raise StoreError(f"artifact {artifact.path!r} is a symbolic link to {artifact.link!r}")
        path = self.object(artifact.digest, artifact.executable)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise StoreError(f"artifact {artifact.path!r} is gone: {path} does not exist any more") from None
        if size != artifact.size_bytes:
            raise StoreError(
                f"artifact {artifact.path!r} is damaged: {path} has {size} bytes, not {artifact.size_bytes}"
            )
        return path

    async def find(self, artifact: Artifact) -> Path | None:
        """Return where the artifact's bytes are, if they are here and as many as they should be."""
        path = self.object(artifact.digest, artifact.executable)
        return path if artifact.link is None and has_size(path, artifact.size_bytes) else None

    async def check(self, artifact: Artifact) -> Path:
        """Return `path(artifact)` after reading it whole; StoreError if its content is not what was stored."""
        path = await self.path(artifact)
        if await asyncio.to_thread(content_digest, path) != artifact.digest:
            raise StoreError(f"artifact {artifact.path!r} is damaged: the content of {path} has changed")
        return path

    async def delete(self, run_id: str) -> int:
        """Delete the run's layers and what no other run uses; return how many bytes that freed."""
        return await asyncio.to_thread(self._delete, run_id)

    async def sweep(self, kept: Collection[str], unused_since: datetime) -> int:
        """Delete the layers of runs that are not `kept`, and objects without a layer that nobody used since then."""
        return await asyncio.to_thread(self._sweep, kept, unused_since.timestamp())

    def object(self, digest: str, executable: bool) -> Path:
        """Return where the object with this content is or would be."""
        return self._objects / digest[:2] / (f"{digest}.x" if executable else digest)

    def new_draft(self) -> Path:
        """Return a path of its own for what may become an object; its directory is there."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch / os.urandom(8).hex()

    def adopt(self, draft: Path, artifact: Artifact) -> None:
        """Make a finished draft, whose content was checked, the artifact's object, in place of a damaged one."""
        path = self.object(artifact.digest, artifact.executable)
        with draft.open("rb") as file:
            os.fchmod(file.fileno(), _MODES[artifact.executable])
            os.fsync(file.fileno())
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(path)
        sync_directory(path.parent)

    # ------------------------------------------------------------------------------------------------------- storing

    def _add(self, key: AttemptKey, files: Sequence[ArtifactFile]) -> tuple[Artifact, ...]:
        layer, draft = attempt_path(self._layers, key), self.new_draft()
        try:
            with self._locked(fcntl.LOCK_SH):
                return self._make_layer(layer, draft, files)
        except OSError as error:
            raise os_error(Path(error.filename or layer), error) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _make_layer(self, layer: Path, draft: Path, files: Sequence[ArtifactFile]) -> tuple[Artifact, ...]:
        draft.mkdir()
        # links last: a directory that is really a link could lead a file out of the layer
        made = {file.path: self._lay(draft, file) for file in sorted(files, key=lambda file: file.link is not None)}
        artifacts = tuple(made[file.path] for file in files)
        _finish(layer, draft, artifacts)
        if layer.exists():  # a directory can't be renamed onto one that holds something
            old = self.new_draft()
            layer.rename(old)
            draft.rename(layer)
            shutil.rmtree(old)
        else:
            draft.rename(layer)
        sync_directory(layer.parent)
        return artifacts

    def _rebuild(self, layer: Path, artifacts: Sequence[Artifact]) -> None:
        """Make the layer of objects that are here; StoreError if one isn't."""
        draft = self.new_draft()
        try:
            with self._locked(fcntl.LOCK_SH):
                draft.mkdir()
                for artifact in sorted(artifacts, key=lambda artifact: artifact.link is not None):
                    target = _place(draft, artifact.path)
                    if artifact.link is not None:
                        target.symlink_to(artifact.link)
                    else:
                        self._link(self.object(artifact.digest, artifact.executable), target)
                _finish(layer, draft, artifacts)
                try:
                    draft.rename(layer)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise  # else another task or process made the same layer meanwhile
                sync_directory(layer.parent)
        except OSError as error:
            raise os_error(Path(error.filename or layer), error) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _lay(self, draft: Path, file: ArtifactFile) -> Artifact:
        """Store one file and put it in its place in the draft of a layer."""
        target = _place(draft, file.path)
        if file.link is not None:
            text = os.fsencode(file.link)
            target.symlink_to(file.link)
            return Artifact(file.path, len(text), hashlib.sha256(text).hexdigest(), link=file.link)
        digest, size = self._store(file.source, file.executable)
        self._link(self.object(digest, file.executable), target)
        return Artifact(file.path, size, digest, file.executable)

    def _store(self, source: Path, executable: bool) -> tuple[str, int]:
        draft = self.new_draft()
        try:
            with source.open("rb") as reader, draft.open("xb") as writer:
                digest, size = _copy(reader, writer)
                self._publish(writer, draft, self.object(digest, executable), _MODES[executable])
        finally:
            draft.unlink(missing_ok=True)
        return digest, size

    def _publish(self, writer: BinaryIO, draft: Path, path: Path, mode: int) -> None:
        """Give the finished draft its name, unless the same content has it already."""
        if path.exists():
            os.utime(path)  # not to be swept before a layer links to it
            return
        writer.flush()
        os.fchmod(writer.fileno(), mode)
        os.fsync(writer.fileno())
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.rename(path)
        sync_directory(path.parent)

    def _link(self, path: Path, target: Path) -> None:
        try:
            target.hardlink_to(path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._copies.touch()
            shutil.copy(path, target)

    # ------------------------------------------------------------------------------------------------------ deleting

    def _delete(self, run_id: str) -> int:
        directory = run_directory(self._layers, run_id)
        if not directory.exists():
            return 0
        try:
            with self._locked(fcntl.LOCK_EX):  # nobody links to an object between the count and its end
                mine = {path for file in directory.glob("*.json") for path in self._listed(file)}
                freed = remove_tree(directory)
                used = self._used() if self._copies.exists() else set()
                return freed + sum(_unlink_unused(path) for path in mine - used)
        except OSError as error:
            raise os_error(directory, error) from error

    def _sweep(self, kept: Collection[str], unused_since: float) -> int:
        freed = 0
        for directory in self._layers.glob("*"):
            if directory.name not in kept and directory.stat().st_mtime < unused_since:
                freed += self._delete(directory.name)
        try:
            with self._locked(fcntl.LOCK_EX):
                used = self._used() if self._copies.exists() else set()
                for path in self._objects.glob("*/*"):
                    if path not in used and path.stat().st_mtime < unused_since:
                        freed += _unlink_unused(path)
                for path in self._scratch.glob("*"):  # what a killed process left
                    if path.stat().st_mtime < unused_since:
                        path.unlink() if path.is_file() else shutil.rmtree(path)
        except OSError as error:
            raise os_error(self._objects, error) from error
        return freed

    def _used(self) -> set[Path]:
        return {path for file in self._layers.glob("*/*.json") for path in self._listed(file)}

    def _listed(self, file: Path) -> Iterator[Path]:
        try:
            entries = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return  # deleted meanwhile
        except ValueError as error:
            raise StoreError(f"{file} is damaged: {error}") from error
        for digest, executable in entries:
            yield self.object(digest, executable)

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Hold the lock between adding (shared) and deleting (exclusive); it ends with the process."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a") as file:
            fcntl.flock(file, kind)
            yield


def _place(draft: Path, path: str) -> Path:
    """Return where the path is in the draft of a layer; its directory is there. StoreError if it is not in the layer."""
    target = draft / _safe(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _finish(layer: Path, draft: Path, artifacts: Sequence[Artifact]) -> None:
    """Have the draft on disk, and beside the layer's place what it is made of."""
    for directory, _, _ in os.walk(draft):
        sync_directory(Path(directory))
    layer.parent.mkdir(parents=True, exist_ok=True)
    _write_list(layer, artifacts)


def has_size(path: Path, size_bytes: int) -> bool:
    """Say whether there is a file of this size."""
    try:
        return path.stat().st_size == size_bytes
    except FileNotFoundError:
        return False


def _safe(path: str) -> str:
    """Return the path if it stays within the layer; StoreError."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise StoreError(f"artifact {path!r} can't be stored: its path leaves the tree")
    return path


def _copy(reader: BinaryIO, writer: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while block := reader.read(_BLOCK_BYTES):
        digest.update(block)
        writer.write(block)
        size += len(block)
    return digest.hexdigest(), size


def content_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_list(layer: Path, artifacts: Sequence[Artifact]) -> None:
    """Write down, next to the layer, which objects it is made of."""
    entries = [(artifact.digest, artifact.executable) for artifact in artifacts if artifact.link is None]
    draft = layer.with_name(f"{layer.name}.{os.urandom(4).hex()}.draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(entries, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(layer.with_name(f"{layer.name}.json"))


def _unlink_unused(path: Path) -> int:
    """Delete the object if no layer links to it; return the bytes that freed."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0
    if status.st_nlink > 1:
        return 0
    path.unlink()
    return status.st_size


def sync_directory(directory: Path) -> None:
    """Have the directory's names on disk (fsync(2): that of a file does not cover them)."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
