"""Routes for who runs the server: tokens, the audit log, deletion of what is old."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from stretto.access.audit import Entry
from stretto.access.principal import Scope
from stretto.access.token import token_to_json
from stretto.doors.rest import model
from stretto.doors.rest.body import Body
from stretto.doors.rest.deps import Admin, answers, unbound
from stretto.doors.rest.openapi import gives, takes
from stretto.doors.rest.problem import ProblemError
from stretto.doors.rest.segment import PREFIX, TokenId

router = APIRouter(prefix=PREFIX, tags=["administration"], default_response_class=JSONResponse)

GIB: Final = 1024**3


@router.get("/tokens", responses=gives(model.Tokens, "All tokens.") | answers())
async def list_tokens(caller: Admin) -> JSONResponse:
    """List tokens, newest first; never their text."""
    unbound(caller)
    return JSONResponse({"tokens": [token_to_json(token) for token in await caller.door.gate.register.list()]})


@router.post(
    "/tokens",
    status_code=201,
    responses=gives(model.MadeToken, "The token, with its text.", status=201) | answers(400, 413, 415),
    openapi_extra=takes(model.NewToken),
)
async def create_token(caller: Admin, body: Body) -> JSONResponse:
    """Make a token. Its text is told in this answer and never again."""
    unbound(caller)
    wanted = await body.read(model.NewToken)
    expires_at = wanted.expires_at
    if expires_at is not None and expires_at.tzinfo is None:
        raise ProblemError(422, "expires_at has no time zone")
    text, token = await caller.door.gate.register.create(
        wanted.name,
        Scope(wanted.scope),
        repositories=wanted.repositories,
        expires_at=None if expires_at is None else expires_at.astimezone(UTC),
        by=caller.entry("token.create"),
    )
    return JSONResponse(token_to_json(token) | {"token": text}, 201)


@router.delete("/tokens/{token}", responses=gives(model.Token, "The token, now worthless.") | answers(404))
async def revoke_token(caller: Admin, token: TokenId) -> JSONResponse:
    """Make a token worthless, on every server of this store within a second."""
    unbound(caller)
    revoked = await caller.door.gate.register.revoke(token, by=caller.entry("token.revoke"))
    return JSONResponse(token_to_json(revoked))


@router.get("/audit", responses=gives(model.AuditPage, "Entries, newest first.") | answers())
async def read_audit(
    caller: Admin,
    before: Annotated[int | None, Query(ge=1, le=model.MAX_RUN_NUMBER)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> JSONResponse:
    """List who did what."""
    unbound(caller)
    entries = await caller.door.gate.audit.list(before=before, limit=limit)
    following = entries[-1].id if len(entries) == limit else None
    return JSONResponse({"entries": [_entry_to_json(entry) for entry in entries], "next": following})


@router.post(
    "/gc",
    responses=gives(model.Swept, "What was deleted, or would be.") | answers(400, 409, 413, 415),
    openapi_extra=takes(model.Sweep, required=False),
)
async def sweep(caller: Admin, body: Body) -> JSONResponse:
    """Delete old runs, trees and mirrors."""
    unbound(caller)
    wanted, keep = await body.read(model.Sweep), caller.door.settings.keep
    swept = await caller.door.waist.gc(
        keep_days=keep.days if wanted.keep_days is None else wanted.keep_days,
        max_bytes=int(keep.max_gb * GIB) if wanted.max_bytes is None else wanted.max_bytes,
        dry_run=wanted.dry_run,
    )
    told = f"{swept.runs} runs, {swept.attempts} attempts, {swept.freed_bytes} bytes"
    caller.note("gc", told, outcome="dry run" if wanted.dry_run else "done")
    return JSONResponse(
        {
            "runs": swept.runs,
            "attempts": swept.attempts,
            "freed_bytes": swept.freed_bytes,
            "dry_run": wanted.dry_run,
        }
    )


def _entry_to_json(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": _time(entry.at),
        "who": entry.who,
        "token": entry.token,
        "action": entry.action,
        "target": entry.target,
        "address": entry.address,
        "outcome": entry.outcome,
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
