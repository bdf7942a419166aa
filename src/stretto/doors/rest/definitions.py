"""Routes that look at definitions and start nothing: check a text, plan what would run."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from stretto.core import spec as specs
from stretto.core.errors import DefinitionError
from stretto.definitions import check_file, compile_pipeline, load
from stretto.doors.rest import model
from stretto.doors.rest.body import Body
from stretto.doors.rest.deps import Reader, Runner, answers
from stretto.doors.rest.openapi import gives, takes
from stretto.doors.rest.segment import PREFIX
from stretto.doors.rest.submission import request_of
from stretto.reports.fault import faults_to_json

router = APIRouter(prefix=PREFIX, tags=["definitions"], default_response_class=JSONResponse)


@router.post(
    "/check",
    responses=gives(model.Faults, "All faults; none where it is good.") | answers(400, 413, 415),
    openapi_extra=takes(model.Check),
)
async def check(caller: Reader, body: Body) -> JSONResponse:
    """Look for faults in a definition."""
    wanted = await body.read(model.Check)
    file, driver = check_file(wanted.file), caller.door.settings.driver
    try:
        definition = await asyncio.to_thread(load, file, wanted.definition.encode())
        compile_pipeline(definition, driver=driver)
    except DefinitionError as error:
        return JSONResponse({"faults": faults_to_json(error)})
    return JSONResponse({"faults": []})


@router.post(
    "/plan",
    responses=gives(model.Specs, "What would run.") | answers(400, 404, 409, 413, 415),
    openapi_extra=takes(model.Submit),
)
async def plan(caller: Runner, body: Body) -> JSONResponse:
    """Compile what a submission asks for, and store nothing. Needs the scope to run, as it fetches from repositories."""
    asked = request_of(await body.read(model.Submit), caller)
    return JSONResponse({"specs": [specs.to_json(spec) for spec in await caller.door.waist.compile(asked)]})
