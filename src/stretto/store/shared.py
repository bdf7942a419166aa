"""Artifacts for many hosts: each keeps those it makes or needs as files, and all of them share a store of blobs.

An attempt's artifacts are among the blobs before its outcome goes on record, so that whoever reads of them can have them.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from stretto.core.errors import NotFoundError, StoreError
from stretto.core.events import Artifact
from stretto.core.ports import ArtifactFile, BlobStore
from stretto.core.spec import AttemptKey
from stretto.store.artifacts import FileArtifacts
from stretto.store.failure import os_error

_TRIES: Final = 3
"""How often objects are brought here again that a collector on this host took before a layer held them."""


class SharedArtifacts:
    """An `ArtifactStore` over the files of this host and the blobs of all."""

    def __init__(self, files: FileArtifacts, blobs: BlobStore) -> None:
        self._files = files
        self._blobs = blobs

    async def add(self, key: AttemptKey, files: Sequence[ArtifactFile]) -> tuple[Artifact, ...]:
        """Store the files here and among the blobs; see `FileArtifacts.add`."""
        artifacts = await self._files.add(key, files)
        await self._blobs.put(
            {item.digest: self._files.object(item.digest, item.executable) for item in artifacts if item.link is None}
        )
        return artifacts

    async def layer(self, key: AttemptKey, artifacts: Sequence[Artifact]) -> Path:
        """Return the attempt's layer, made of what is here and what is brought here."""
        for _ in range(_TRIES - 1):
            await self._fetch(artifacts)
            try:
                return await self._files.layer(key, artifacts)
            except StoreError:
                if all([await self._files.find(item) or item.link is not None for item in artifacts]):
                    raise
        await self._fetch(artifacts)
        return await self._files.layer(key, artifacts)

    async def path(self, artifact: Artifact) -> Path:
        """Return where the artifact's bytes are on this host, brought here if need be; StoreError if they are gone."""
        await self._fetch([artifact])
        return await self._files.path(artifact)

    async def find(self, artifact: Artifact) -> Path | None:
        """Return where the artifact's bytes are, if they are on this host already."""
        return await self._files.find(artifact)

    async def delete(self, run_id: str) -> int:
        """Delete the run's layers on this host; blobs are collected once no run on record uses them."""
        return await self._files.delete(run_id)

    async def sweep(self, kept: Collection[str], unused_since: datetime) -> int:
        """Delete what this host has of runs that are not `kept`, and what nobody used here; blobs have their own collector."""
        return await self._files.sweep(kept, unused_since)

    async def _fetch(self, artifacts: Sequence[Artifact]) -> None:
        """Bring the objects here that are missing, or were cut short by a crash of this host."""
        missing = {
            (item.digest, item.executable): item
            for item in artifacts
            if item.link is None and await self._files.find(item) is None
        }
        if not missing:
            return
        drafts = {item.digest: self._files.new_draft() for item in missing.values()}
        try:
            await self._blobs.get(drafts)
            await asyncio.to_thread(self._adopt, list(missing.values()), drafts)
        except NotFoundError as error:
            raise StoreError(f"an artifact is gone from the store: {error.message}") from error
        except OSError as error:
            raise os_error(Path(error.filename or "artifacts"), error) from error
        finally:
            await asyncio.to_thread(_delete, drafts.values())

    def _adopt(self, artifacts: Sequence[Artifact], drafts: dict[str, Path]) -> None:
        last = {item.digest: item for item in artifacts}
        for item in artifacts:
            draft = drafts[item.digest]
            if item is not last[item.digest]:  # of one content a file and a program are wanted: they differ in mode
                draft = self._files.new_draft()
                shutil.copyfile(drafts[item.digest], draft)
            self._files.adopt(draft, item)


def _delete(drafts: Collection[Path]) -> None:
    for draft in drafts:
        draft.unlink(missing_ok=True)
