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
from stretto.reports.human import SHORT_COMMIT, count, duration, first_line
from stretto.reports.terminal import BOLD, DIM, YELLOW, Cell, Style, cut
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
    lines = [f"{style.paint(style.clean(spec.name), BOLD)}: {_size(spec)}"]
    lines += [f"  {name:<10}  {style.clean(value)}" for name, value in _facts(spec, style)]
    rows = []
    for number, level in enumerate(levels(spec), 1):
        for i, job in enumerate(level):
            image = job.container.image if job.container is not None else f"({job.driver})"
            rows.append(
                [
                    Cell(str(number) if i == 0 else "", BOLD),
                    Cell(style.clean(job.name)),
                    Cell(style.clean(job.stage)),
                    Cell(style.clean(_starts(spec, job))),
                    Cell(style.clean(image), DIM),
                ]
            )
    lines += ["", *style.table(("Level", "Job", "Stage", "Starts", "Image"), rows, right=frozenset())]
    if reasons := conditions(spec):
        lines += ["", style.paint("What may not run", BOLD)]
        lines += [style.paint(f"  {style.clean(f'{job}: {reason}')}", YELLOW) for job, reason in reasons.items()]
    return lines


def conditions(spec: RunSpec) -> dict[str, str]:
    """Return why jobs may not run though nothing stops the run: job -> reason.

    A job `on_failure` runs only after a failure. A job that names its needs wants all of them to succeed, which those that may
    fail or may not run themselves need not do.
    """
    uncertain = {job.name for job in spec.jobs if job.allow_failure}
    reasons: dict[str, str] = {}
    for job in (job for level in levels(spec) for job in level):
        if job.when is When.ON_FAILURE:
            waits = _waits_for(spec, job)
            reasons[job.name] = (
                "runs only if a job that it waits for fails" if waits else "waits for no job that could fail"
            )
        elif job.when is When.ON_SUCCESS and (wanted := [it.job for it in job.needs or () if it.job in uncertain]):
            reasons[job.name] = f"runs only if {', '.join(wanted)} {'succeeds' if len(wanted) == 1 else 'succeed'}"
        if job.name in reasons:
            uncertain.add(job.name)
    return reasons


def plan_to_json(spec: RunSpec) -> dict[str, Any]:
    """Return the plan as JSON data; of a job, `waits_for` has the jobs that must be over before it may start, and
    `may_not_run` the reason why it may not although nothing stops the run.
    """
    source, reasons = spec.source, conditions(spec)
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
                "may_not_run": reasons.get(job.name),
                "allow_failure": job.allow_failure,
                "max_retries": job.retry.max_retries,
                "timeout_s": job.timeout_s,
                "artifacts": list(job.artifacts),
            }
            for job in spec.jobs
        ],
    }


def _size(spec: RunSpec) -> str:
    used = {job.stage for job in spec.jobs}
    widest = max((len(level) for level in levels(spec)), default=0)
    return f"{count(len(spec.jobs), 'job')} in {count(len(used), 'stage')}, at most {widest} at once"


def _facts(spec: RunSpec, style: Style) -> list[tuple[str, str]]:
    facts = []
    if (source := spec.source) is not None:
        place = f"branch {source.branch}" if source.branch else f"tag {source.tag}" if source.tag else ""
        subject = cut(style.clean(first_line(source.commit_message)), style.columns // 2, style.ellipsis)
        parts = (source.commit[:SHORT_COMMIT], subject, place and f"({place})")
        facts += [("repository", source.repository), ("commit", " ".join(part for part in parts if part))]
    if spec.definition is not None:
        facts.append(("file", spec.definition))
    if spec.timeout_s is not None:
        facts.append(("time limit", duration(spec.timeout_s)))
    if spec.fail_fast:
        facts.append(("fail fast", "the first failure stops what runs"))
    if empty := [stage for stage in spec.stages if not any(job.stage == stage for job in spec.jobs)]:
        facts.append(("no jobs in", ", ".join(empty)))
    return facts


def _waits_for(spec: RunSpec, job: JobSpec) -> list[str]:
    if job.needs is not None:
        return [need.job for need in job.needs]
    earlier = set(spec.stages[: spec.stages.index(job.stage)])
    return [other.name for other in spec.jobs if other.stage in earlier]


def _starts(spec: RunSpec, job: JobSpec) -> str:
    """Say when the job starts and what else there is to know about that."""
    if job.needs is None:
        used = {other.stage for other in spec.jobs}
        waits = [stage for stage in spec.stages[: spec.stages.index(job.stage)] if stage in used]
        what = f"stage{'s' * (len(waits) > 1)} {', '.join(waits)}"
    else:
        waits = [need.job for need in job.needs]
        what = ", ".join(waits)
    several = len(waits) > 1
    ends = {
        When.ON_SUCCESS: "succeeded",
        When.ALWAYS: "are over" if several else "is over",
        When.ON_FAILURE: "are over and one failed" if several else "failed",
    }
    told = f"when {what} {ends[job.when]}" if waits else "at once" if job.when is not When.ON_FAILURE else "never"
    extras = []
    if job.allow_failure:
        extras.append("may fail")
    if job.retry.max_retries:
        extras.append(f"up to {count(1 + job.retry.max_retries, 'attempt')}")
    if job.timeout_s is not None:
        extras.append(f"time limit {duration(job.timeout_s)}")
    return told + (f" ({', '.join(extras)})" if extras else "")
