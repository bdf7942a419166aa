"""Puts the REST application together."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from stretto import __version__
from stretto.doors.rest import (
    admin,
    artifacts,
    definitions,
    hooks,
    openapi,
    output,
    problem,
    runs,
    status,
    uploads,
)
from stretto.doors.rest.deps import Door
from stretto.doors.rest.frame import Frame

MIB: Final = 1024 * 1024

_DESCRIPTION: Final = """\
Runs the pipelines of git repositories. Every error is a problem of RFC 9457; the last part of its `type` is a word for machines.

`{run}` is a run's number, its id, or an unambiguous start of its id. A slash in the name of a job is written `%2F`.
"""


def build(door: Door) -> FastAPI:
    """Return the application."""
    app = bare(door)
    for part in (runs, output, artifacts, definitions, uploads, hooks, admin):
        app.include_router(part.router)
    app.include_router(runs.submissions)
    return app


def bare(door: Door) -> FastAPI:
    """Return an application that only says how this process is: what a conductor without API offers."""
    app = FastAPIOffline(  # its pages need no other host
        redoc_url=None,
        title="Stretto",
        version=__version__,
        description=_DESCRIPTION,
        redirect_slashes=False,
        root_path=door.settings.api.root_path,
    )
    app.state.door = door
    problem.install(app)
    openapi.install(app)
    app.add_middleware(Frame, metrics=door.metrics, max_body=door.settings.api.max_body_mb * MIB)
    app.include_router(status.router)
    app.include_router(status.versioned)
    return app
