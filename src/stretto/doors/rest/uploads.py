"""The route by which a source tree comes that is in no repository the server could reach: a git pack, as the raw body."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import unquote

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse

from stretto.doors.rest import model
from stretto.doors.rest.deps import Runner, answers
from stretto.doors.rest.openapi import gives
from stretto.doors.rest.problem import ProblemError
from stretto.doors.rest.segment import PREFIX

router = APIRouter(prefix=PREFIX, tags=["runs"])

MEDIA_TYPE: Final = "application/x-git-packed-objects"
_BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}
_HASH: Final = r"^(?:[0-9a-f]{40}|[0-9a-f]{64})$"


@router.post(
    "/uploads",
    status_code=201,
    responses=gives(model.Upload, "Kept for a day, or as long as a run uses it.", status=201) | answers(400, 413, 415),
    openapi_extra=_BODY,
    response_class=JSONResponse,
)
async def upload(
    request: Request,
    caller: Runner,
    commit: Annotated[str, Header(alias="Stretto-Commit", pattern=_HASH)],
    repository: Annotated[
        str,
        Header(
            alias="Stretto-Repository",
            max_length=3000,
            pattern=r"^[\x21-\x7e]+$",
            description="What to call the repository it comes from, percent-encoded.",
        ),
    ],
    branch: Annotated[
        str | None,
        Header(alias="Stretto-Branch", max_length=1000, pattern=r"^[\x21-\x7e]+$", description="Percent-encoded."),
    ] = None,
    digest: Annotated[
        str | None, Header(alias="Stretto-Digest", pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the body.")
    ] = None,
) -> JSONResponse:
    """Keep a git pack that holds one commit without its history."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != MEDIA_TYPE:
        raise ProblemError(415, f"the body must be {MEDIA_TYPE}", word="media-type")
    name = unquote(repository)
    if not caller.principal.reaches(name):
        raise ProblemError(403, "your token is not for this repository")
    kept = await caller.door.waist.add_upload(
        request.stream(),
        commit=commit,
        repository=name,
        branch=None if branch is None else unquote(branch),
        digest=digest,
        by=caller.principal.name,
    )
    caller.note("upload", kept.id)
    return JSONResponse(
        {
            "upload": kept.id,
            "digest": kept.digest,
            "commit": kept.commit,
            "repository": kept.repository,
            "branch": kept.branch,
            "size_bytes": kept.size_bytes,
        },
        201,
    )
