"""From the body of a submission to the request that the waist takes, with what this caller may not ask for refused."""

from __future__ import annotations

from pathlib import Path

from stretto.access.repository import permitted
from stretto.doors.rest.deps import Caller
from stretto.doors.rest.model import Submit
from stretto.doors.rest.problem import ProblemError
from stretto.settings import Settings
from stretto.waist import RunRequest


def request_of(body: Submit, caller: Caller, *, header_key: str | None = None) -> RunRequest:
    """Return the request; ProblemError, SourceError."""
    key = header_key or body.idempotency_key
    if header_key and body.idempotency_key not in (None, header_key):
        raise ProblemError(422, "the header Idempotency-Key and the body's idempotency_key are not the same")
    check_driver(body.driver, caller.door.settings)
    return RunRequest(
        repository=_repository(body, caller),
        directory=Path("/"),
        branch=body.branch,
        commit=body.commit,
        file=body.file,
        pipelines=tuple(dict.fromkeys(body.pipelines)),
        overrides=tuple(body.overrides),
        variables=body.variables,
        driver=body.driver,
        definition=body.definition,
        upload=body.upload,
        priority=body.priority,
        idempotency_key=key and f"{caller.principal.token_id}/{key}",  # keys of different callers never meet
        by=caller.principal.name,
    )


def _repository(body: Submit, caller: Caller) -> str | None:
    """Return the address to take the source from; of an upload, what it calls itself, if that was said."""
    if body.upload is not None:
        if caller.principal.is_bound and not (body.validate_ and caller.principal.reaches(body.repository)):
            raise ProblemError(
                403,
                "your token is bound to repositories: name the one that the upload is of, and have it validated",
            )
        return body.repository
    if body.repository is None:
        raise ProblemError(422, "name a repository or an upload")
    root = caller.door.settings.api.local_root
    address = permitted(body.repository, local_root=Path(root) if root else None)
    if not caller.principal.reaches(address):
        raise ProblemError(403, "your token is not for this repository")
    return address


def check_driver(driver: str | None, settings: Settings) -> None:
    """Refuse a driver that callers may not choose: `process` runs what they send as the server's own user."""
    allowed = {settings.driver, *settings.api.drivers.replace(",", " ").split()}
    if driver is not None and driver not in allowed:
        raise ProblemError(
            422,
            f"the driver {driver!r} can't be asked for here",
            hint=f"drivers: {', '.join(sorted(allowed))}; the server's setting api.drivers names more",
        )
