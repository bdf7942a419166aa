"""`stretto plan`: what `run` would do, and nothing done."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import click

from stretto.core.graph import levels
from stretto.core.spec import JobSpec, RunSpec, SourceSpec, When, to_json
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.request import make_request, request_options
from stretto.doors.cli.text import Paint, harmless, one_line
from stretto.reports import human
from stretto.waist import RunRequest

SHORT_COMMIT = 10


@declare("plan", example="stretto plan -b main --var LEVEL=debug")
@request_options
@click.pass_obj
def command(options: Options, /, **request: Any) -> None:
    """Show what `run` with the same options would run, in which order and why; nothing is stored or started.

    REPOSITORY is a path or URL; default: the one around the current directory.
    """
    specs = asyncio.run(_compile(options, make_request(**request)))
    if options.json:
        say(json.dumps([plan_to_json(spec) for spec in specs], indent=2, ensure_ascii=False))
        return
    paint = options.paint(sys.stdout)
    say("\n\n".join("\n".join(plan_lines(spec, paint)) for spec in specs))


def plan_to_json(spec: RunSpec) -> dict[str, Any]:
    """Return the spec, the names of its jobs in levels, and for each job that may not run the reason."""
    return {
        "spec": to_json(spec),
        "levels": [[job.name for job in level] for level in levels(spec)],
        "conditions": conditions(spec),
    }


def plan_lines(spec: RunSpec, paint: Paint) -> list[str]:
    """Return the plan as lines for people."""
    lines = [f"{paint(harmless(spec.name), 'bold')}: {human.count(len(spec.jobs), 'job')}"]
    if spec.source is not None:
        lines += [f"  repository  {harmless(spec.source.repository)}", f"  commit      {_commit(spec.source)}"]
    if spec.definition is not None:
        lines.append(f"  file        {harmless(spec.definition)}")
    lines.append(f"  stages      {', '.join(map(harmless, spec.stages))}")
    if spec.timeout_s is not None:
        lines.append(f"  timeout     {human.duration(spec.timeout_s)}")
    if spec.fail_fast:
        lines.append("  fail fast   the first failure stops what is running")
    may_not_run = conditions(spec)
    for number, level in enumerate(levels(spec), start=1):
        lines += ["", paint(f"Level {number}", "bold")]
        for job in level:
            lines.append(f"  {paint(harmless(job.name), 'cyan')} ({harmless(job.stage)})")
            lines += [f"    {name:<9} {value}" for name, value in _facts(spec, job)]
            if job.name in may_not_run:
                lines.append(f"    {paint('may not run: ' + harmless(may_not_run[job.name]), 'yellow')}")
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
            reasons[job.name] = "runs only if a job that it waits for fails"
        elif job.when is When.ON_SUCCESS and (wanted := [it.job for it in job.needs or () if it.job in uncertain]):
            reasons[job.name] = f"runs only if {', '.join(wanted)} {'succeeds' if len(wanted) == 1 else 'succeed'}"
        if job.name in reasons:
            uncertain.add(job.name)
    return reasons


def _facts(spec: RunSpec, job: JobSpec) -> list[tuple[str, str]]:
    runs_in = harmless(job.driver) + (f", image {harmless(job.container.image)}" if job.container else "")
    facts = [("driver", runs_in), ("waits for", harmless(_waits_for(spec, job)))]
    if job.when is not When.ON_SUCCESS:
        facts.append(("when", job.when.value))
    if job.allow_failure:
        facts.append(("failure", "allowed"))
    if job.retry.max_retries:
        facts.append(("retries", str(job.retry.max_retries)))
    if job.timeout_s is not None:
        facts.append(("timeout", human.duration(job.timeout_s)))
    return facts


def _waits_for(spec: RunSpec, job: JobSpec) -> str:
    if job.needs is not None:
        return ", ".join(need.job for need in job.needs) or "nothing"
    used = {other.stage for other in spec.jobs}
    earlier = [stage for stage in spec.stages[: spec.stages.index(job.stage)] if stage in used]
    return f"all of {', '.join(earlier)}" if earlier else "nothing"


def _commit(source: SourceSpec) -> str:
    place = f"branch {source.branch}" if source.branch else f"tag {source.tag}" if source.tag else ""
    parts = [source.commit[:SHORT_COMMIT], one_line(source.commit_message), harmless(place) and f"({harmless(place)})"]
    return " ".join(part for part in parts if part)


async def _compile(options: Options, request: RunRequest) -> list[RunSpec]:
    async with options.open() as waist:
        return await waist.compile(request)
