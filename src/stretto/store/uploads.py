"""Uploads: what is known of each in a table, its pack among the blobs. The same on every database."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from stretto.core.errors import NotFoundError
from stretto.core.ports import BlobStore, Tables
from stretto.core.upload import Upload
from stretto.store.rows import micros, moment

_COLUMNS: Final = "id, digest, commit_id, commit_message, repository, branch, size_bytes, submitted_by, created_at"

_ADD: Final = f"""
INSERT INTO upload ({_COLUMNS}, used_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET used_at = excluded.used_at
"""

_USE: Final = f"UPDATE upload SET used_at = ? WHERE id = ? RETURNING {_COLUMNS}"

_DELETE: Final = """
DELETE FROM upload
WHERE used_at < ?
  AND NOT EXISTS (
      SELECT 1 FROM run JOIN spec ON spec.run = run.number
      WHERE run.repository = upload.repository AND spec.body LIKE ? || upload.digest || ?)
  AND NOT EXISTS (SELECT 1 FROM submission WHERE submission.body LIKE ? || upload.id || ?)
"""
"""A digest is in a spec's text for no other reason than that the spec names the upload; the repository leads to few specs."""


def _now() -> int:
    return time.time_ns() // 1000


class Uploads:
    """A `core.ports.UploadStore` over the small tables of any store."""

    def __init__(self, tables: Tables, blobs: BlobStore, now: Callable[[], int] = _now) -> None:
        """`now` is the time in microseconds since 1970."""
        self._tables = tables
        self._blobs = blobs
        self._now = now

    async def add(self, upload: Upload, pack: Path) -> None:
        """Keep the pack, then what is known of it: who finds the row finds the pack."""
        await self._blobs.put({upload.digest: pack})
        values = (
            upload.id,
            upload.digest,
            upload.commit,
            upload.commit_message,
            upload.repository,
            upload.branch,
            upload.size_bytes,
            upload.by,
            micros(upload.created_at),
            self._now(),
        )
        await self._tables.write((_ADD, values))

    async def use(self, id: str) -> Upload:
        """Return the upload, which no collector that keeps a day deletes for a day from now; NotFoundError."""
        [rows] = await self._tables.write((_USE, (self._now(), id)))
        if not rows:
            raise NotFoundError(f"there is no upload {id[:80]!r}", hint="send the tree again")
        id, digest, commit, message, repository, branch, size, by, created_at = rows[0]
        return Upload(id, digest, commit, message, repository, branch, size, by, moment(created_at))

    async def get(self, digest: str, target: Path) -> None:
        """Make the file `target` with the pack of this digest; NotFoundError."""
        await self._blobs.get({digest: target})

    async def delete_unused(self, unused_since: datetime) -> int:
        """Delete uploads that were not used since then, nor by a run, and unused blobs; return how many bytes that freed."""
        await self._tables.write((_DELETE, (micros(unused_since), "%", "%", "%", "%")))
        return await self._blobs.delete_unused(unused_since)
