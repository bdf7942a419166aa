"""Reads JSON bodies, after the caller was let in: nobody without a token makes the server hold or parse anything."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from stretto.doors.rest.problem import MAX_SHOWN, ProblemError

M = TypeVar("M", bound=BaseModel)


class Raw:
    """A body that is still to be read."""

    def __init__(self, request: Request) -> None:
        self._request = request

    async def read(self, shape: type[M]) -> M:
        """Return the body as this shape; an empty one means all defaults. ProblemError 400, 413, 415, 422."""
        data = await self._request.body()
        kind = self._request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and (data or kind):
            raise ProblemError(415, "the body must be application/json", word="media-type")
        try:
            return shape.model_validate_json(data or b"{}")
        except ValidationError as error:
            raise _problem(error) from error


def _problem(error: ValidationError) -> ProblemError:
    """Return what is wrong with the body, without repeating what it holds."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [
        {"where": ".".join(["body", *map(str, one["loc"])])[:200], "message": one["msg"]} for one in found[:MAX_SHOWN]
    ]
    if any(one["type"] == "json_invalid" for one in found):
        return ProblemError(400, "the body is no JSON", errors=errors)
    told = "; ".join(f"{one['where']}: {one['message']}" for one in errors[:3])
    return ProblemError(422, f"the request is not as the API has it: {told}", errors=errors)


async def _raw(request: Request) -> Raw:
    return Raw(request)


Body = Annotated[Raw, Depends(_raw)]
