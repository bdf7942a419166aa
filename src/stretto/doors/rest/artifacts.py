"""Routes for what jobs left: list, one file, all of it as a zip that is made while it is sent."""

from __future__ import annotations

import asyncio
import stat
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Final, cast
from urllib.parse import quote

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from stretto.core.errors import NotFoundError
from stretto.doors.rest import model
from stretto.doors.rest.deps import Backend, Reader, answers
from stretto.doors.rest.openapi import gives
from stretto.doors.rest.segment import PREFIX, FilePath, Name, RunRef
from stretto.doors.rest.stream import Stream
from stretto.waist import StoredArtifact, artifact_to_json

router = APIRouter(prefix=PREFIX, tags=["artifacts"])

BYTES: Final = "application/octet-stream"
ZIP: Final = "application/zip"
_BINARY: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
_SANDBOX: Final = {"Content-Security-Policy": "sandbox; default-src 'none'"}
"""What a job left is never run in a browser."""
JobName = Annotated[str | None, Query(max_length=255, pattern=model.PLAIN)]


@router.get("/runs/{run}/artifacts", responses=gives(model.Artifacts, "What they left.") | answers(404))
async def list_artifacts(caller: Reader, run: RunRef, job: JobName = None) -> JSONResponse:
    """List what a run's jobs, or one of them, left."""
    row = await caller.run(run)
    stored = await caller.door.waist.artifacts(row.id, job=job)
    return JSONResponse({"artifacts": [artifact_to_json(it) for it in stored]})


@router.get(
    "/runs/{run}/artifacts.zip",
    response_class=Response,
    responses={200: {"description": "All of it.", "content": {ZIP: _BINARY}}, **answers(404)},
)
async def zip_artifacts(caller: Reader, run: RunRef, job: JobName = None) -> Response:
    """Give what a run's jobs left as one file: JOB/PATH in it, with `job` PATH."""
    row = await caller.run(run)
    stored = await caller.door.waist.artifacts(row.id, job=job)
    return Stream(
        _zip(caller.door.waist, stored, by_job=job is None),
        media_type=ZIP,
        headers={"Content-Disposition": _attachment(f"{row.number}-artifacts.zip")},
    )


@router.get(
    "/runs/{run}/artifacts/{job}/{path:path}",
    response_class=Response,
    responses={200: {"description": "The file.", "content": {BYTES: _BINARY}}, **answers(404)},
)
async def read_artifact(caller: Reader, run: RunRef, job: Name, path: FilePath) -> Response:
    """Give a file that a job left."""
    row, waist = await caller.run(run), caller.door.waist
    for it in await waist.artifacts(row.id, job=job):
        if it.artifact.path == path and it.artifact.link is None:
            chunks = _bytes(waist, it)
            first = await anext(chunks, b"")  # what is gone is told before the answer begins
            return Stream(
                _after(first, chunks),
                media_type=BYTES,
                length=it.artifact.size_bytes,
                headers={
                    "Content-Disposition": _attachment(path.rpartition("/")[2]),
                    "ETag": f'"{it.artifact.digest}"',
                    **_SANDBOX,
                },
            )
    raise NotFoundError(f"run {row.number}, job {job!r} has no file {path!r} among its artifacts")


async def _bytes(waist: Backend, it: StoredArtifact) -> AsyncGenerator[bytes, None]:
    async with aclosing(cast("AsyncGenerator[bytes, None]", waist.artifact_data(it))) as chunks:
        async for chunk in chunks:
            yield chunk


async def _after(first: bytes, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        if first:
            yield first
        async for chunk in chunks:
            yield chunk


class _Pipe:
    """A file that `zipfile` writes to and that is emptied after each write; it has no position to go back to."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Hold the bytes."""
        self._held.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is behind this."""

    def take(self) -> bytes:
        """Return what was written since."""
        data, self._held = b"".join(self._held), []
        return data


async def _zip(waist: Backend, stored: Sequence[StoredArtifact], *, by_job: bool) -> AsyncGenerator[bytes, None]:
    """Yield the archive as it grows; in memory is one chunk of one file, and a line for each file that is in it."""
    pipe = _Pipe()
    archive = zipfile.ZipFile(cast("Any", pipe), "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    for it in stored:
        info = _entry(it, by_job=by_job)
        with archive.open(info, "w", force_zip64=True) as entry:
            async for chunk in _content(waist, it):
                await asyncio.to_thread(entry.write, chunk)
                if data := pipe.take():
                    yield data
        yield pipe.take()
    archive.close()
    yield pipe.take()


async def _content(waist: Backend, it: StoredArtifact) -> AsyncIterator[bytes]:
    if it.artifact.link is not None:
        yield it.artifact.link.encode("utf-8", "surrogateescape")
        return
    async for chunk in waist.artifact_data(it):
        yield chunk


def _entry(it: StoredArtifact, *, by_job: bool) -> zipfile.ZipInfo:
    """Return how the archive knows the file: with its mode, and without a time, which nobody recorded."""
    info = zipfile.ZipInfo(f"{it.job}/{it.artifact.path}" if by_job else it.artifact.path)
    info.compress_type = zipfile.ZIP_DEFLATED
    kind = stat.S_IFREG if it.artifact.link is None else stat.S_IFLNK
    info.external_attr = (kind | (0o755 if it.artifact.executable or it.artifact.link else 0o644)) << 16
    return info


def _attachment(name: str) -> str:
    return f"attachment; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
