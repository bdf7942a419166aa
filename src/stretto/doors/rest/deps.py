"""What every route stands on: the parts of the door, who is calling, and what that allows.

A route that changes or shows anything takes `Reader`, `Runner` or `Admin`: none is answered without a token of that scope.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from math import ceil
from typing import Annotated, Any, Final, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from stretto.access.audit import Entry
from stretto.access.gate import Gate
from stretto.access.principal import Principal, Scope
from stretto.core.errors import NotFoundError
from stretto.core.events import Event
from stretto.core.ports import RunRow, Tables
from stretto.core.spec import RunSpec
from stretto.core.upload import Upload
from stretto.doors.rest import model
from stretto.doors.rest.metrics import Metrics
from stretto.doors.rest.openapi import ref
from stretto.doors.rest.problem import MEDIA_TYPE, ProblemError
from stretto.settings import Settings
from stretto.waist import LogRequest, RunRequest, Waist

CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}

bearer = HTTPBearer(auto_error=False, description="A token of this server: `stretto token create`.")


class Backend(Waist, Protocol):
    """The waist of a server: what a door needs beside what the command line does. Implemented by `service.Service`."""

    async def accept(self, request: RunRequest) -> list[tuple[RunRow, bool]]:
        """Store what is asked for, to be compiled by whoever conducts it; False with a run that was there already."""

    async def add_upload(
        self,
        data: AsyncIterator[bytes],
        *,
        commit: str,
        repository: str,
        branch: str | None = None,
        digest: str | None = None,
        by: str = "",
    ) -> Upload:
        """Take a git pack that holds the commit; InputError, TooLargeError, SourceError."""

    async def find_spec(self, run: str) -> RunSpec | None:
        """Return what the run consists of, None while it is not compiled; NotFoundError."""

    async def read_events(self, run: str, after: int = 0) -> list[tuple[int, Event]]:
        """Return the run's events after sequence number `after` that are on record by now; NotFoundError."""

    async def log_size(self, request: LogRequest) -> int:
        """Return how many bytes of an attempt's output there are by now; NotFoundError."""


@dataclass(frozen=True, slots=True)
class Door:
    """The parts that routes share; `app.state.door`. `is_conducting` is None where this process conducts nothing."""

    waist: Backend
    gate: Gate
    settings: Settings
    tables: Tables
    metrics: Metrics
    is_conducting: Callable[[], bool] | None = None
    queue_trouble: Callable[[], str | None] | None = None
    """What is wrong with the message queue; None where there is no queue."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server is to end: events stop, and who follows them goes on elsewhere."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who made this request, from which address."""

    door: Door
    principal: Principal
    address: str

    def entry(self, action: str, target: str = "", *, outcome: str = "done") -> Entry:
        """Return an entry of the audit log, not yet written."""
        who = self.principal
        return Entry(self.door.gate.now(), who.name, action, target, self.address, outcome, who.token_id)

    def note(self, action: str, target: str = "", *, outcome: str = "done") -> None:
        """Write down what the caller did."""
        self.door.gate.audit.note(self.entry(action, target, outcome=outcome))

    async def run(self, reference: str) -> RunRow:
        """Return the run if it is there for this caller; NotFoundError, which never tells that it is there for another one."""
        try:
            row = await self.door.waist.find_run(reference)
        except NotFoundError as error:
            if self.principal.is_bound:
                raise _no_run(reference) from None
            raise error
        if not self.principal.reaches(row.repository):
            self.note("run.read", f"run {row.number}", outcome="refused")
            raise _no_run(reference)
        return row


def door_of(request: Request) -> Door:
    """Return the parts of the door that took this request."""
    door: Door = request.app.state.door
    return door


def address_of(request: Request) -> str:
    """Return where the request came from, as far as the server knows."""
    return request.client.host if request.client is not None else ""


class Needs:
    """A dependency that lets a request in if its token has the scope, and gives who it is."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def __call__(
        self,
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> Caller:
        """Return who is calling; ProblemError 401, 403, 429."""
        door, address = door_of(request), address_of(request)
        gate = door.gate
        principal = None if credentials is None else await gate.register.authenticate(credentials.credentials)
        if principal is None:
            raise _refused(gate, request, address, is_anonymous=credentials is None)
        if wait_s := gate.requests.take(principal.token_id):
            raise _too_often("the token is used too often", wait_s)
        request.scope["principal"] = principal.name
        caller = Caller(door, principal, address)
        if not principal.may(self._scope):
            caller.note(f"{request.method} {request.url.path}", outcome="refused")
            raise ProblemError(
                403,
                f"this needs a token of scope {self._scope.value}, and yours has {principal.scope.value}",
                headers=CHALLENGE | {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{self._scope}"'},
            )
        return caller


Reader = Annotated[Caller, Depends(Needs(Scope.READ))]
Runner = Annotated[Caller, Depends(Needs(Scope.RUN))]
Admin = Annotated[Caller, Depends(Needs(Scope.ADMIN))]


def unbound(caller: Caller) -> None:
    """Refuse a caller whose token is bound to repositories where something is about all of them; ProblemError 403."""
    if caller.principal.is_bound:
        raise ProblemError(403, "this is about all repositories, and your token is bound to some")


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how these errors are described in the OpenAPI document."""
    content = {MEDIA_TYPE: {"schema": ref(model.Problem)}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how the errors of a route that takes a token are described: these, and those that all have."""
    return errors(*statuses, 401, 403, 422, 429, 500, 503)


_MEANINGS: Final = {
    400: "The request can't be read.",
    401: "No token, or one that is not valid.",
    403: "The token does not allow this.",
    404: "It is not there, or not for this token.",
    409: "Its state does not allow this.",
    413: "The body is too large.",
    415: "The body has another media type.",
    416: "The range is outside of what there is.",
    422: "The request, or something it names, can't be used.",
    429: "Too many requests; Retry-After has the seconds to wait.",
    500: "A bug of the server.",
    503: "Something the server needs is away; try again.",
}


def _refused(gate: Gate, request: Request, address: str, *, is_anonymous: bool) -> ProblemError:
    """Return what somebody is told who brings no valid token; who tries many is told to wait, and not written down again."""
    if not is_anonymous:
        if wait_s := gate.failures.take(address):
            return _too_often("too many wrong tokens came from your address", wait_s)
        gate.audit.note(Entry(gate.now(), "", "login", request.url.path, address, "refused"))
    told = "a token is needed" if is_anonymous else "the token is not valid"
    return ProblemError(401, told, hint="send the header Authorization: Bearer stretto_…", headers=CHALLENGE)


def _too_often(told: str, wait_s: float) -> ProblemError:
    return ProblemError(429, told, headers={"Retry-After": str(ceil(wait_s))})


def _no_run(reference: str) -> NotFoundError:
    return NotFoundError(f"there is no run {reference!r}", hint="`stretto runs` lists them")
