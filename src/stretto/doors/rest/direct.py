"""How submissions reach their route: by the shortest way, as they are what a server gets most and in bursts.

FastAPI describes the route and still turns what it raises into problems, but solves no dependencies for it: that would take half
as long as to authenticate the caller, read the body and store the run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from stretto.access.principal import Scope
from stretto.doors.rest.body import Raw
from stretto.doors.rest.deps import Needs, bearer
from stretto.doors.rest.problem import ProblemError

KEY_PATTERN: Final = r"^[\x21-\x7e]+$"
KEY_LENGTH: Final = 255
KEY_HEADER: Final = "idempotency-key"

_KEY: Final = re.compile(KEY_PATTERN)
_needs = Needs(Scope.RUN)


class SubmissionRoute(APIRoute):
    """A route whose endpoint takes request, caller (of scope `run`), body and idempotency key, in this order."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        endpoint = self.endpoint

        async def handle(request: Request) -> Response:
            caller = await _needs(request, await bearer(request))
            response: Response = await endpoint(request, caller, Raw(request), _key(request))
            return response

        return handle


def _key(request: Request) -> str | None:
    """Return the key of the header; ProblemError 422."""
    key = request.headers.get(KEY_HEADER)
    if key is not None and (len(key) > KEY_LENGTH or not _KEY.fullmatch(key)):
        told = f"header.{KEY_HEADER}: give 1 to {KEY_LENGTH} visible ASCII characters"
        raise ProblemError(422, f"the request is not as the API has it: {told}")
    return key
