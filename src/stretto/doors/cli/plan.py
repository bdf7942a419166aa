"""`stretto plan`: the dry run. Compiles like `run`, stores and starts nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import click

from stretto.core.graph import levels
from stretto.core.spec import JobSpec, RunSpec, When
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.request import read_request, request_options
from stretto.reports.human import count, duration
from stretto.reports.terminal import BOLD, DIM, Cell, Style
from stretto.waist import RunRequest


@declare("plan", example="stretto plan --set default.image=python:3.13")
@request_options
@click.pass_obj
def command(options: Options, /, **given: Any) -> None:
    """Show what would run, in which order, and why.

    REPOSITORY is a path or URL; without it, the repository you are in. Jobs of one level can run at once; each says what it
    waits for. Nothing is stored or started.
    """
    specs = asyncio.run(_compile(options, read_request(**given)))
    if options.json:
        say(json.dumps([plan_to_json(spec) for spec in specs], ensure_ascii=False))
        return
    style = options.style(sys.stdout)
    for i, spec in enumerate(specs):
        if i:
            say()
        for line in plan_lines(spec, style):
            say(line)


async def _compile(options: Options, request: RunRequest) -> list[RunSpec]:
    async with options.open() as waist:
        return await waist.compile(request)


def plan_lines(spec: RunSpec, style: Style) -> list[str]:
    """Return the plan as text."""
    order = levels(spec)
    lines = [f"{style.paint(style.clean(spec.name), BOLD)}: {_facts(spec, style)}"]
    rows = []
    for number, level in enumerate(order, 1):
        for i, job in enumerate(level):
            image = job.container.image if job.container is not None else f"({job.driver})"
            rows.append(
                [
                    Cell(str(number) if i == 0 else "", BOLD),
                    Cell(style.clean(job.name)),
                    Cell(style.clean(job.stage)),
                    Cell(style.clean(image), DIM),
                    Cell(style.clean(_starts(spec, job))),
                ]
            )
    lines += ["", *style.table(("Level", "Job", "Stage", "Image", "Starts"), rows, right=frozenset())] if rows else []
    if empty := [stage for stage in spec.stages if not any(job.stage == stage for job in spec.jobs)]:
        lines += ["", style.paint(f"Stages without jobs: {style.clean(', '.join(empty))}", DIM)]
    return lines


def plan_to_json(spec: RunSpec) -> dict[str, Any]:
    """Return the plan as JSON data; a job's `waits_for` has the jobs that must be over before it may start."""
    source = spec.source
    return {
        "name": spec.name,
        "definition": spec.definition,
        "repository": source and source.repository,
        "branch": source and source.branch,
        "tag": source and source.tag,
        "commit": source and source.commit,
        "commit_message": source and source.commit_message,
        "fail_fast": spec.fail_fast,
        "timeout_s": spec.timeout_s,
        "stages": list(spec.stages),
        "levels": [[job.name for job in level] for level in levels(spec)],
        "jobs": [
            {
                "name": job.name,
                "stage": job.stage,
                "driver": job.driver,
                "image": job.container.image if job.container is not None else None,
                "needs": None if job.needs is None else [need.job for need in job.needs],
                "waits_for": _waits_for(spec, job),
                "when": job.when.value,
                "allow_failure": job.allow_failure,
                "max_retries": job.retry.max_retries,
                "timeout_s": job.timeout_s,
                "artifacts": list(job.artifacts),
            }
            for job in spec.jobs
        ],
    }


def _facts(spec: RunSpec, style: Style) -> str:
    used = {job.stage for job in spec.jobs}
    widest = max((len(level) for level in levels(spec)), default=0)
    facts = [f"{count(len(spec.jobs), 'job')} in {count(len(used), 'stage')}, at most {widest} at once"]
    if spec.fail_fast:
        facts.append("fail fast")
    if spec.timeout_s is not None:
        facts.append(f"time limit {duration(spec.timeout_s)}")
    if spec.source is not None:
        place = spec.source.branch or spec.source.tag
        facts.append(f"commit {spec.source.commit[:10]}" + (f" of {style.clean(place)}" if place else ""))
    return ", ".join(facts)


def _waits_for(spec: RunSpec, job: JobSpec) -> list[str]:
    if job.needs is not None:
        return [need.job for need in job.needs]
    earlier = set(spec.stages[: spec.stages.index(job.stage)])
    return [other.name for other in spec.jobs if other.stage in earlier]


def _starts(spec: RunSpec, job: JobSpec) -> str:
    """Say when the job starts and what else there is to know about that."""
    ends = {When.ON_SUCCESS: "succeeded", When.ALWAYS: "are over", When.ON_FAILURE: "are over and one failed"}
    if job.needs is None:
        used = {other.stage for other in spec.jobs}
        waits = [stage for stage in spec.stages[: spec.stages.index(job.stage)] if stage in used]
        what = f"stage{'s' * (len(waits) > 1)} {', '.join(waits)}"
    else:
        waits = [need.job for need in job.needs]
        what = ", ".join(waits)
    words = ends[job.when] if len(waits) > 1 else ends[job.when].replace("are over and one", "").replace("are", "is")
    told = f"when {what} {words.strip()}" if waits else "at once" if job.when is not When.ON_FAILURE else "never"
    extras = []
    if job.allow_failure:
        extras.append("may fail")
    if job.retry.max_retries:
        extras.append(f"up to {count(1 + job.retry.max_retries, 'attempt')}")
    if job.timeout_s is not None:
        extras.append(f"time limit {duration(job.timeout_s)}")
    return told + (f" ({', '.join(extras)})" if extras else "")
