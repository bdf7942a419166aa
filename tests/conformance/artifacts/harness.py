"""Where the suite's artifacts are kept: files of one host, or files of several that share a database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from stretto.core.events import Artifact
from stretto.core.ports import ArtifactStore
from stretto.store.artifacts import FileArtifacts
from stretto.store.postgres import upgrade
from stretto.store.postgres.blobs import PostgresBlobs
from stretto.store.postgres.database import Database
from stretto.store.shared import SharedArtifacts
from tests.conformance.logs.harness import PostgresHarness


class FilesHarness:
    """One host, whatever it is called: several processes over one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @asynccontextmanager
    async def open(self, host: str = "here") -> AsyncIterator[ArtifactStore]:
        """Give an artifact store on the host."""
        yield FileArtifacts(self.directory / "artifacts")

    def drop(self) -> None:
        """It is in the test's directory."""


class SharedHarness(PostgresHarness):
    """Hosts with a directory each, and one database for all."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.directory = directory

    @asynccontextmanager
    async def open_blobs(self) -> AsyncIterator[PostgresBlobs]:
        """Give the blobs of the database."""
        await upgrade(self.place)
        database = Database(self.place)
        await database.open()
        try:
            yield PostgresBlobs(database)
        finally:
            await database.close()

    @asynccontextmanager
    async def open(self, host: str = "here") -> AsyncIterator[ArtifactStore]:
        """Give an artifact store on the host."""
        async with self.open_blobs() as blobs:
            yield SharedArtifacts(FileArtifacts(self.directory / host), blobs)

    def record(self, run_id: str, artifacts: tuple[Artifact, ...]) -> None:
        """Put on record that the run has these artifacts, as a commit would."""
        self.execute(
            "INSERT INTO run (id, kind, name, status, submitted_by, created_at, seq)"
            f" VALUES ('{run_id}', 'pipeline', 'p', 'success', '', 0, 1)"
        )
        for item in artifacts:
            self.execute(
                "INSERT INTO artifact (run, job, attempt, path, size_bytes, digest, executable)"
                f" SELECT number, 0, 1, '{item.path}', {item.size_bytes}, '{item.digest}', {item.executable}"
                f" FROM run WHERE id = '{run_id}'"
            )
