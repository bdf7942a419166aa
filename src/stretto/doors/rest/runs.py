"""Routes for runs: submit, list, look at every level, cancel, retry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse

from stretto.core import spec as specs
from stretto.core.errors import NotFoundError
from stretto.core.ports import RunFilter, RunRow
from stretto.core.states import FINAL, Status
from stretto.doors.rest import model
from stretto.doors.rest.body import Body
from stretto.doors.rest.deps import Caller, Reader, Runner, answers
from stretto.doors.rest.direct import KEY_LENGTH, KEY_PATTERN, SubmissionRoute
from stretto.doors.rest.openapi import gives, takes
from stretto.doors.rest.problem import ProblemError
from stretto.doors.rest.segment import PREFIX, Name, Number, RunRef
from stretto.doors.rest.submission import request_of
from stretto.reports.model import to_json
from stretto.reports.row import row_to_json

router = APIRouter(prefix=PREFIX, tags=["runs"], default_response_class=JSONResponse)
submissions = APIRouter(prefix=PREFIX, tags=["runs"], default_response_class=JSONResponse, route_class=SubmissionRoute)

MAX_PAGE: Final = 500
MAX_PAGES_READ: Final = 20
"""Pages of the store that one request looks through for the runs of a bound token."""

Line = Annotated[str | None, Query(max_length=2000, pattern=model.PLAIN)]


@submissions.post(
    "/runs",
    status_code=202,
    responses=gives(model.Runs, "Accepted.", status=202)
    | gives(model.Runs, "They were there already, under the same idempotency key.", status=200)
    | answers(400, 404, 409, 413, 415),
    openapi_extra=takes(model.Submit),
)
async def submit(
    request: Request,
    caller: Runner,
    body: Body,
    idempotency_key: Annotated[str | None, Header(max_length=KEY_LENGTH, pattern=KEY_PATTERN)] = None,
) -> JSONResponse:
    """Run the pipelines of a repository at a commit. Answers as soon as that is stored."""
    wanted = await body.read(model.Submit)
    asked = request_of(wanted, caller, header_key=idempotency_key)
    waist = caller.door.waist
    if wanted.validate_:
        began_at = datetime.now(UTC)
        rows = [(row, row.created_at >= began_at) for row in await waist.submit(asked)]
    else:
        rows = await waist.accept(asked)
    for row, is_new in rows:
        caller.note("run.submit", f"run {row.number}", outcome="done" if is_new else "known")
    return _accepted(request, [row for row, _ in rows], status=202 if any(new for _, new in rows) else 200)


@router.get("/runs", responses=gives(model.RunPage, "Runs, newest first.") | answers())
async def list_runs(
    caller: Reader,
    status: Annotated[list[Status] | None, Query(max_length=8)] = None,
    name: Line = None,
    repository: Line = None,
    branch: Line = None,
    by: Line = None,
    before: Annotated[int | None, Query(ge=1, le=model.MAX_RUN_NUMBER)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> JSONResponse:
    """List runs; a page may be short where the token is bound to repositories: go on with `next`."""
    which = RunFilter(
        statuses=frozenset(status) if status else None,
        name=name,
        repository=repository,
        branch=branch,
        by=by,
        before=before,
        limit=limit,
    )
    rows, following = await _page(caller, which)
    return JSONResponse({"runs": [row_to_json(row) for row in rows], "next": following})


@router.get("/runs/{run}", responses=gives(model.Run, "The run.") | answers(404))
async def find_run(caller: Reader, run: RunRef) -> JSONResponse:
    """Show a run."""
    return JSONResponse(row_to_json(await caller.run(run)))


@router.get("/runs/{run}/report", responses=gives("Report", "The report.") | answers(404))
async def report(caller: Reader, run: RunRef) -> JSONResponse:
    """Show all that is told of a run, as it stands."""
    return JSONResponse(await _report(caller, run))


@router.get("/runs/{run}/spec", responses=gives(model.Spec, "What the run consists of.") | answers(404, 409))
async def find_spec(caller: Reader, run: RunRef) -> JSONResponse:
    """Show what a run was compiled to; 409 while it was not."""
    row = await caller.run(run)
    spec = await caller.door.waist.find_spec(row.id)
    if spec is None:
        raise ProblemError(409, f"run {row.number} is not compiled yet", word="undefined")
    return JSONResponse(specs.to_json(spec))


@router.get("/runs/{run}/stages/{stage}", responses=gives("ReportStage", "The stage.") | answers(404))
async def find_stage(caller: Reader, run: RunRef, stage: Name) -> JSONResponse:
    """Show a stage with its jobs."""
    return JSONResponse(_named((await _report(caller, run))["stages"], stage, f"run {run} has no stage"))


@router.get("/runs/{run}/jobs/{job}", responses=gives("ReportJob", "The job.") | answers(404))
async def find_job(caller: Reader, run: RunRef, job: Name) -> JSONResponse:
    """Show a job with its attempts."""
    return JSONResponse(await _job(caller, run, job))


@router.get("/runs/{run}/jobs/{job}/attempts/{number}", responses=gives("ReportAttempt", "The attempt.") | answers(404))
async def find_attempt(caller: Reader, run: RunRef, job: Name, number: Number) -> JSONResponse:
    """Show one attempt at a job."""
    for attempt in (await _job(caller, run, job))["attempts"]:
        if attempt["number"] == number:
            return JSONResponse(attempt)
    raise NotFoundError(f"run {run}, job {job!r}: no attempt {number}")


@router.post(
    "/runs/{run}/cancel",
    status_code=202,
    responses=gives(model.Run, "Asked for.", status=202) | answers(400, 404, 409, 413, 415),
    openapi_extra=takes(model.Cancel, required=False),
)
async def cancel(caller: Runner, run: RunRef, body: Body) -> JSONResponse:
    """Ask for the end of a run or of one of its jobs."""
    row = await caller.run(run)
    wanted = await body.read(model.Cancel)
    if row.status in FINAL:
        raise ProblemError(409, f"run {row.number} is over already: {row.status}")
    row = await caller.door.waist.cancel(row.id, job=wanted.job, by=caller.principal.name, force=wanted.force)
    caller.note("run.cancel", f"run {row.number}" + (f", job {wanted.job}" if wanted.job else ""))
    return JSONResponse(row_to_json(row), 202)


@router.post(
    "/runs/{run}/retry",
    status_code=202,
    responses=gives(model.Run, "The new run.", status=202) | answers(400, 404, 409, 413, 415),
    openapi_extra=takes(model.Retry, required=False),
)
async def retry(request: Request, caller: Runner, run: RunRef, body: Body) -> JSONResponse:
    """Do a run that is over again, as a new run; what succeeded is kept unless all is to be done again."""
    row = await caller.run(run)
    wanted = await body.read(model.Retry)
    if row.status not in FINAL:
        raise ProblemError(409, f"run {row.number} is not over yet: {row.status}")
    again = await caller.door.waist.retry(row.id, failed_only=wanted.failed_only, by=caller.principal.name)
    caller.note("run.retry", f"run {row.number} as run {again.number}")
    return JSONResponse(row_to_json(again), 202, {"Location": _address(request, again)})


def _accepted(request: Request, rows: list[RunRow], *, status: int) -> JSONResponse:
    return JSONResponse({"runs": [row_to_json(row) for row in rows]}, status, {"Location": _address(request, rows[0])})


def _address(request: Request, row: RunRow) -> str:
    return f"{request.scope.get('root_path', '')}/api/v1/runs/{row.number}"


async def _page(caller: Caller, which: RunFilter) -> tuple[list[RunRow], int | None]:
    """Return the runs that the caller may see, and where the next page begins."""
    waist, reaches = caller.door.waist, caller.principal.reaches
    if not caller.principal.is_bound:
        rows = await waist.list_runs(which)
        return rows, rows[-1].number if len(rows) == which.limit else None
    found: list[RunRow] = []
    before = which.before
    for _ in range(MAX_PAGES_READ):
        rows = await waist.list_runs(_with(which, before))
        for row in rows:
            before = row.number
            if reaches(row.repository):
                found.append(row)
                if len(found) == which.limit:
                    return found, before
        if len(rows) < MAX_PAGE:
            return found, None
    return found, before


def _with(which: RunFilter, before: int | None) -> RunFilter:
    return RunFilter(which.statuses, which.name, which.repository, which.branch, which.by, before, MAX_PAGE)


async def _report(caller: Caller, run: str) -> dict[str, Any]:
    return to_json(await caller.door.waist.report((await caller.run(run)).id))


async def _job(caller: Caller, run: str, job: str) -> dict[str, Any]:
    stages = (await _report(caller, run))["stages"]
    return _named([job for stage in stages for job in stage["jobs"]], job, f"run {run} has no job")


def _named(things: list[dict[str, Any]], name: str, told: str) -> dict[str, Any]:
    for thing in things:
        if thing["name"] == name:
            return thing
    known = ", ".join(thing["name"] for thing in things[:10]) + (" …" if len(things) > 10 else "")
    raise NotFoundError(f"{told} {name!r}", hint=f"there are: {known}" if known else None)
