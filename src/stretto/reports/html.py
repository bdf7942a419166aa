"""A report as one HTML file to keep or to mail: no script, no request, readable in light and dark, on a phone and on paper.

Every text from outside goes through `markup.text`, which makes it harmless and escapes it; what is not text is made here. The
page forbids itself everything but its own style sheet, by hash, so that a hole in the escaping would still open nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import tzinfo
from html import escape
from importlib import resources
from typing import Final

from stretto.core.states import FINAL, Status
from stretto.reports import human, markup, timeline
from stretto.reports.model import SCHEMA, JobReport, Report, RunReport, StageReport
from stretto.reports.terminal import SYMBOLS, plain

SHORT_COMMIT: Final = 10
MAX_TOLD_FAILURES: Final = 50
"""How many failed jobs are told at the top; all are in the timeline."""
_COUNT_ORDER: Final = (
    *(Status.SUCCESS, Status.FAILED, Status.CANCELED, Status.RUNNING),
    *(Status.WAITING, Status.QUEUED, Status.PENDING, Status.SKIPPED),
)
_LEGEND: Final = {
    "queued": "queued",
    "setup": "set-up",
    "success": "success",
    "failed": "failed",
    "allowed": "allowed to fail",
    "running": "running",
    "canceled": "canceled",
    "path": "critical path",
}
_WHEN: Final = {
    "on_success": "if what it waits for succeeded",
    "always": "always",
    "on_failure": "if something it waits for failed",
}


def render(report: Report, *, zone: tzinfo | None = None) -> str:
    """Return the report as an HTML document with times in `zone`, None for the one of this machine."""
    style = resources.files("stretto.reports").joinpath("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    run = report.run
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(digest)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{SYMBOLS[run.status][0]} {markup.text(run.name)} #{run.number}: {run.status}</title>
<style>{style}</style>
</head>
<body class="{run.status}">
{_header(report, zone)}
<main>
{_failures(report)}
{_timeline(report, zone)}
{_critical_path(report)}
</main>
<footer>Made by Stretto, {markup.time(report.generated_at, zone)}, from a <code>{SCHEMA}</code> document.</footer>
</body>
</html>
"""


def _policy(style_digest: str) -> str:
    return f"default-src 'none'; style-src 'sha256-{style_digest}'; base-uri 'none'; form-action 'none'"


# --------------------------------------------------------------------------------------------------------- sections


def _header(report: Report, zone: tzinfo | None) -> str:
    run = report.run
    facts = [("Took", human.duration(run.duration_s) + ("" if report.is_over else " so far"))]
    facts.append(("Queued", human.duration(run.queue_s)))
    facts.append(("Started", markup.time(run.started_at, zone)))
    if run.ended_at is not None:
        facts.append(("Ended", markup.time(run.ended_at, zone)))
    for name, value in (
        ("Repository", run.repository),
        ("Branch", run.branch),
        ("Tag", run.tag),
        ("Commit", run.commit and run.commit[:SHORT_COMMIT]),
        ("Definition", run.definition),
        ("Requested by", run.submitted_by),
        ("Retry of", run.retry_of and f"run {run.retry_of}"),
    ):
        if value:
            facts.append((name, f"<bdi>{markup.text(value)}</bdi>"))
    message = f'<p class="lead">{markup.text(run.message)}</p>' if run.message else ""
    return f"""<header>
<p class="eyebrow">{markup.text(run.kind)} run {run.number}</p>
<h1><bdi>{markup.text(run.name)}</bdi> {markup.pill(run.status, run.reason)}</h1>
{message}{_commit_message(run)}
{markup.facts(facts)}
{_counts(report)}
</header>"""


def _commit_message(run: RunReport) -> str:
    lines = [markup.text(line) for line in (run.commit_message or "").strip().splitlines()]
    if not lines:
        return ""
    first, rest = f"<bdi>{lines[0]}</bdi>", "\n".join(lines[1:]).strip("\n")
    if not rest:
        return f'<p class="commit">{first}</p>'
    return f'<details class="commit"><summary>{first}</summary><pre>{rest}</pre></details>'


def _counts(report: Report) -> str:
    total = sum(report.counts.values())
    if not total:
        return '<p class="none">This run has no jobs.</p>'
    shares, legend, x = [], [], 0.0
    for status in _COUNT_ORDER:
        if number := report.counts[status]:
            wide = 100 * number / total
            shares.append(f'<rect class="{status}" x="{x:.3f}%" width="{wide:.3f}%" height="100%"/>')
            legend.append(f"<li>{markup.symbol(status)} <b>{number}</b> {status}</li>")
            x += wide
    return f"""<div class="counts"><svg width="100%" height="8" aria-hidden="true">{"".join(shares)}</svg>
<ul aria-label="{human.count(total, "job")} by status">{"".join(legend)}</ul></div>"""


def _failures(report: Report) -> str:
    failed = [(stage, job) for stage, job in report.jobs() if job.status is Status.FAILED]
    failed.sort(key=lambda pair: pair[1].allow_failure)  # what stopped the run comes first
    if not failed:
        return ""
    anchors = _anchors(report)
    cards = [_failure(report, stage, job, anchors[job.name]) for stage, job in failed[:MAX_TOLD_FAILURES]]
    if (left := len(failed) - MAX_TOLD_FAILURES) > 0:
        cards.append(f'<li class="more">and {human.count(left, "more job")}, in the timeline below</li>')
    return f"""<section aria-labelledby="failed"><h2 id="failed">What failed</h2>
<ul class="failures">{"".join(cards)}</ul></section>"""


def _failure(report: Report, stage: StageReport, job: JobReport, anchor: str) -> str:
    tags = [markup.text(job.reason or "failed")]
    if job.exit_code is not None:
        tags.append(f"exit code {job.exit_code}")
    if len(job.attempts) > 1:
        tags.append(f"{len(job.attempts)} attempts")
    if job.allow_failure:
        tags.append("allowed to fail")
    message = f"<p>{markup.text(job.message)}</p>" if job.message else ""
    color, name = markup.color_of(job), markup.text(job.name)
    return f"""<li class="{color}"><h3>{markup.symbol(job.status, color)} <a href="#{anchor}"><bdi>{name}</bdi></a>
<small>in <bdi>{markup.text(stage.name)}</bdi></small></h3>
<p class="tags">{"".join(f"<span>{tag}</span>" for tag in tags)}</p>{message}{_log(report, job)}</li>"""


def _timeline(report: Report, zone: tzinfo | None) -> str:
    axis = timeline.axis(report)
    anchors = _anchors(report)
    stages = [_stage(report, stage, axis, anchors, zone) for stage in report.stages]
    return f"""<section aria-labelledby="timeline"><h2 id="timeline">Timeline</h2>
<p class="hint">Time from {markup.time(axis.start, zone)}. Open a job for its attempts and artifacts.</p>
{_legend(report)}
<div class="chart"><div class="row axis"><span></span>{timeline.scale(axis)}<span></span></div>
{"".join(stages)}</div></section>"""


def _legend(report: Report) -> str:
    """Return what the colours mean, of those that the timeline shows."""
    shown = {"queued", "setup"} | {markup.color_of(job) for _, job in report.jobs() if job.started_at is not None}
    if report.critical_path.jobs:
        shown.add("path")
    items = [f'<li><i class="{color}"></i>{name}</li>' for color, name in _LEGEND.items() if color in shown]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _stage(
    report: Report, stage: StageReport, axis: timeline.Axis, anchors: Mapping[str, str], zone: tzinfo | None
) -> str:
    critical = frozenset(report.critical_path.jobs)
    rows = []
    for job in stage.jobs:
        marks = f'id="{anchors[job.name]}" class="job{" critical" if job.name in critical else ""}"'
        rows.append(
            f"<details {marks}>{_row(report, job, axis, job.name in critical)}\n{_job_details(report, job, zone)}</details>\n"
        )
    return f"""<section class="stage"><h3>{markup.symbol(stage.status)} <bdi>{markup.text(stage.name)}</bdi>
<small>{stage.status}{"" if stage.jobs else ", no jobs"}</small></h3>
{"".join(rows)}</section>
"""


def _row(report: Report, job: JobReport, axis: timeline.Axis, critical: bool) -> str:
    if job.kept_from is not None:
        picture = f'<span class="none">kept from {human.kept(job.kept_from.run, job.kept_from.attempt)}</span>'
    elif job.started_at is None and job.status in FINAL:
        picture = f'<span class="none">{job.status}: {markup.text(job.message or job.reason or "")}</span>'
    else:
        picture = timeline.bars(job, axis, critical=critical, now=report.generated_at)
    return f"""<summary class="row">
<span class="name">{markup.symbol(job.status, markup.color_of(job))} <bdi>{markup.text(job.name)}</bdi></span>{picture}
<span class="took">{human.duration(job.duration_s)}</span></summary>"""


def _critical_path(report: Report) -> str:
    path = report.critical_path
    if len(path.jobs) < 2:
        return ""
    duration_s = {job.name: job.duration_s for _, job in report.jobs()}
    steps = "".join(
        f"<li><bdi>{markup.text(name)}</bdi> <b>{human.duration(duration_s[name])}</b></li>" for name in path.jobs
    )
    total = f" of {human.duration(report.run.duration_s)}" if report.run.duration_s is not None else ""
    return f"""<section aria-labelledby="path"><h2 id="path">Critical path</h2>
<p class="hint">{human.duration(path.duration_s)}{total}: the run gets faster only if one of these jobs does.</p>
<ol class="path">{steps}</ol></section>"""


# ------------------------------------------------------------------------------------------------------------ a job


def _job_details(report: Report, job: JobReport, zone: tzinfo | None) -> str:
    facts = [("Status", f"{job.status}" + (f" ({markup.text(job.reason)})" if job.reason else ""))]
    if job.message:
        facts.append(("Message", markup.text(job.message)))
    if job.exit_code is not None:
        facts.append(("Exit code", str(job.exit_code)))
    facts.append(("Driver", markup.text(job.driver)))
    if job.image:
        facts.append(("Image", f"<bdi>{markup.text(job.image)}</bdi>"))
    needs = "all earlier stages" if job.needs is None else ", ".join(f"<bdi>{markup.text(n)}</bdi>" for n in job.needs)
    facts.append(("Needs", needs or "nothing"))
    facts.append(
        ("Runs", _WHEN.get(job.when, markup.text(job.when)) + (", allowed to fail" if job.allow_failure else ""))
    )
    facts.append(("Queued", human.duration(job.queue_s)))
    if job.kept_from is not None:
        facts.append(("Kept from", human.kept(job.kept_from.run, job.kept_from.attempt)))
    if job.retry_at is not None:
        facts.append(("Next try", f"not before {markup.time(job.retry_at, zone)}"))
    return f'<div class="more">{markup.facts(facts)}{_attempts(job, zone)}{_artifacts(job)}{_log(report, job)}</div>'


def _attempts(job: JobReport, zone: tzinfo | None) -> str:
    rows = [
        (
            f"{markup.symbol(attempt.status)} {attempt.number}",
            f"{attempt.status}" + (f" ({markup.text(attempt.reason)})" if attempt.reason else ""),
            human.NOTHING if attempt.exit_code is None else str(attempt.exit_code),
            markup.time(attempt.started_at, zone),
            human.duration(attempt.setup_s),
            human.duration(attempt.duration_s),
            markup.text(attempt.message or ""),
        )
        for attempt in job.attempts
    ]
    return markup.table("Attempts", ("Attempt", "Result", "Exit", "Started", "Set-up", "Took", "Message"), rows)


def _artifacts(job: JobReport) -> str:
    rows = [
        (
            f"<bdi>{markup.text(item.path)}</bdi>"
            + (f" → <bdi>{markup.text(item.link)}</bdi>" if item.link is not None else ""),
            human.size(item.size_bytes),
            f"<code>{markup.text(item.digest)}</code>",
        )
        for item in job.artifacts
    ]
    return markup.table("Artifacts", ("Path", "Size", "SHA-256"), rows)


def _log(report: Report, job: JobReport) -> str:
    if not job.attempts and job.kept_from is None:
        return ""
    command = escape(human.log_command(report.run.number, plain(job.name)))
    return f'<p class="log">Log: <code>{command}</code></p>'


def _anchors(report: Report) -> dict[str, str]:
    """Return for each job the id of its row; names are no ids."""
    return {job.name: f"job-{i}" for i, (_, job) in enumerate(report.jobs(), start=1)}
