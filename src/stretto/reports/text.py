"""A report as text, for a terminal and for pipes: all runs, the runs of one pipeline, one run, one stage, one job.

Each function returns whole lines, the last one ended. Whatever comes from outside goes through `Style.clean` first. What failed
comes before what went well, because that is why people look.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Final

from stretto.core.errors import NotFoundError
from stretto.core.ports import RunRow
from stretto.core.states import FINAL, Reason, Status
from stretto.reports import human
from stretto.reports.model import AttemptReport, JobReport, Report, RunReport, StageReport
from stretto.reports.terminal import BOLD, DIM, PAINTS, YELLOW, Cell, Style, cut

MAX_TOLD_FAILURES: Final = 20
"""How many failed jobs are told one by one; the table has them all."""
MAX_PATH_JOBS: Final = 12
"""How many jobs of a critical path are named: the first and the last ones."""
NUMERIC: Final = frozenset({"#", "Exit", "Queued", "Took", "Tries", "Size", "Set-up"})
"""Headings of columns that are flush right."""


def runs(rows: Sequence[RunRow], style: Style, *, now: datetime) -> str:
    """Return the table of runs, in the order given."""
    if not rows:
        return "No runs.\n"
    return _lines(_runs_table(rows, style, now))


def pipeline(name: str, rows: Sequence[RunRow], style: Style, *, now: datetime) -> str:
    """Return the runs of one pipeline with a line that sums them up; `rows` are its runs, newest first."""
    over = [row for row in rows if row.status in FINAL]
    succeeded = sum(row.status is Status.SUCCESS for row in over)
    took = [(row.ended_at - row.started_at).total_seconds() for row in over if row.started_at and row.ended_at]
    summary = f"{human.count(len(rows), 'run')}, {succeeded} of {len(over)} that are over succeeded"
    if took:
        summary += f", median {human.duration(sorted(took)[len(took) // 2])}"
    return _lines([style.paint(style.clean(name), BOLD), summary, *_spaced(_runs_table(rows, style, now))])


def run(report: Report, style: Style) -> str:
    """Return the report on one run."""
    lines = [*_run_head(report, style), *_failures(report, style), *_spaced(_jobs_table(report.stages, style))]
    if len(report.critical_path.jobs) > 1:
        lines += ["", _critical_path(report, style)]
    artifacts = [artifact for _, job in report.jobs() for artifact in job.artifacts]
    if artifacts:
        total = human.size(sum(artifact.size_bytes for artifact in artifacts))
        lines += [
            "",
            f"Artifacts: {human.count(len(artifacts), 'file')}, {total} (stretto artifacts {report.run.number})",
        ]
    return _lines(lines)


def stage(report: Report, name: str, style: Style) -> str:
    """Return the report on one stage; NotFoundError if the run has none of this name."""
    by_name = {stage.name: stage for stage in report.stages}
    if name not in by_name:
        raise _not_found("stage", name, by_name, report.run)
    found = by_name[name]
    facts = [
        ("run", f"{report.run.number} of {style.clean(report.run.name)}"),
        ("started", human.moment(found.started_at, style.zone)),
        ("ended", human.moment(found.ended_at, style.zone)),
        ("jobs", human.count(len(found.jobs), "job")),
    ]
    lines = [_title(style, found.status, f"Stage {style.clean(found.name)}", found.status.value), *_facts(facts)]
    return _lines([*lines, *_spaced(_jobs_table([found], style))])


def job(report: Report, name: str, style: Style) -> str:
    """Return the report on one job with its attempts and artifacts; NotFoundError if the run has none of this name."""
    by_name = {job.name: (stage, job) for stage, job in report.jobs()}
    if name not in by_name:
        raise _not_found("job", name, by_name, report.run)
    in_stage, found = by_name[name]
    lines = [_title(style, found.status, f"Job {style.clean(found.name)}", _result(found, style))]
    if found.message:
        lines.append(f"  {style.clean(found.message)}")
    lines += _facts(_job_facts(report, in_stage, found, style))
    if found.attempts:
        header = ("Attempt", "Status", "Reason", "Exit", "Started", "Set-up", "Took", "Message")
        lines += _spaced(_table(style, header, [_attempt_row(attempt, style) for attempt in found.attempts]))
    if found.artifacts:
        rows = [
            [Cell(style.clean(item.path)), Cell(human.size(item.size_bytes)), Cell(f"sha256:{item.digest}", DIM)]
            for item in found.artifacts
        ]
        lines += _spaced(_table(style, ("Artifact", "Size", "Digest"), rows))
    if found.attempts or found.kept_from is not None:
        lines += ["", f"Log: {_log_command(report.run, found, style)}"]
    return _lines(lines)


# ------------------------------------------------------------------------------------------------------------ a run


def _run_head(report: Report, style: Style) -> list[str]:
    it = report.run
    result = it.status.value if it.reason is None else f"{it.status.value} ({style.clean(it.reason)})"
    lines = [_title(style, it.status, _run_name(it, style), result)]
    if it.message:
        lines.append(f"  {style.clean(it.message)}")
    facts = []
    if it.repository:
        facts.append(("repository", style.clean(it.repository)))
    if it.retry_of is not None:
        facts.append(("retry of", f"run {it.retry_of}"))
    if it.commit:
        facts.append(("commit", _commit(it, style)))
    facts.append(("created", human.moment(it.created_at, style.zone)))
    if it.started_at:
        facts.append(("started", f"{human.moment(it.started_at, style.zone)}, queued {human.duration(it.queue_s)}"))
    if it.ended_at:
        facts.append(("ended", human.moment(it.ended_at, style.zone)))
    if it.duration_s is not None:
        facts.append(("took", human.duration(it.duration_s) + ("" if report.is_over else " so far")))
    facts.append(("jobs", _counts(report)))
    return [*lines, *_facts(facts)]


def _failures(report: Report, style: Style) -> list[str]:
    failed = [(stage, job) for stage, job in report.jobs() if job.status is Status.FAILED]
    failed.sort(key=lambda pair: pair[1].allow_failure)  # what stopped the run comes first
    if not failed:
        return []
    lines = ["", style.paint("What failed", BOLD)]
    for in_stage, it in failed[:MAX_TOLD_FAILURES]:
        allowed = " (allowed to fail)" if it.allow_failure else ""
        where = f"{style.clean(it.name)}, stage {style.clean(in_stage.name)}: {_why(it, style)}{allowed}"
        lines.append(f"  {style.paint(f'{style.symbol(it.status)} {where}', _paint(it))}")
        if it.message:
            lines.append(f"    {style.clean(it.message)}")
        if it.attempts:
            lines.append(f"    {style.paint(_log_command(report.run, it, style), DIM)}")
    if (left := len(failed) - MAX_TOLD_FAILURES) > 0:
        lines.append(f"  and {left} more")
    return lines


def _critical_path(report: Report, style: Style) -> str:
    names = [style.clean(name) for name in report.critical_path.jobs]
    if len(names) > MAX_PATH_JOBS:
        half = MAX_PATH_JOBS // 2
        names = [*names[:half], f"{len(names) - 2 * half} more", *names[-half:]]
    total = f" of {human.duration(report.run.duration_s)}" if report.run.duration_s is not None else ""
    path = f" {style.arrow} ".join(names)
    return f"Critical path: {path} ({human.duration(report.critical_path.duration_s)}{total})"


def _jobs_table(stages: Iterable[StageReport], style: Style) -> list[str]:
    header = ("", "Stage", "Job", "Status", "Reason", "Exit", "Queued", "Took", "Tries")
    return _table(style, header, [_job_row(stage, job, style) for stage in stages for job in stage.jobs])


def _job_row(in_stage: StageReport, it: JobReport, style: Style) -> list[Cell]:
    paint = _paint(it)
    tries = f"{len(it.attempts)}/{it.max_attempts}" if it.max_attempts > 1 else str(len(it.attempts) or human.NOTHING)
    if it.kept_from is not None:
        tries = f"kept from {it.kept_from.run}"
    return [
        Cell(style.symbol(it.status), paint),
        Cell(style.clean(in_stage.name)),
        Cell(style.clean(it.name), BOLD),
        Cell(it.status.value, paint),
        Cell(style.clean(it.reason or "") + (" (allowed)" if _allowed(it) else "")),
        Cell(human.NOTHING if it.exit_code is None else str(it.exit_code)),
        Cell(human.duration(it.queue_s)),
        Cell(human.duration(it.duration_s)),
        Cell(tries),
    ]


def _runs_table(rows: Sequence[RunRow], style: Style, now: datetime) -> list[str]:
    header = ("", "#", "Pipeline", "Status", "Reason", "Branch", "Commit", "Created", "Took", "Message")
    return _table(style, header, [_run_row(row, style, now) for row in rows])


def _run_row(row: RunRow, style: Style, now: datetime) -> list[Cell]:
    took = None if row.started_at is None else max(0.0, ((row.ended_at or now) - row.started_at).total_seconds())
    return [
        Cell(style.symbol(row.status), PAINTS[row.status]),
        Cell(str(row.number), BOLD),
        Cell(style.clean(row.name)),
        Cell(row.status.value, PAINTS[row.status]),
        Cell(style.clean(row.reason or "")),
        Cell(style.clean(row.branch or human.NOTHING)),
        Cell(style.clean((row.commit or human.NOTHING)[: human.SHORT_COMMIT]), DIM),
        Cell(human.moment(row.created_at, style.zone)),
        Cell(human.duration(took)),
        Cell(style.clean(human.first_line(row.commit_message)), DIM),
    ]


# ------------------------------------------------------------------------------------------------------------ a job


def _job_facts(report: Report, in_stage: StageReport, it: JobReport, style: Style) -> list[tuple[str, str]]:
    facts = [
        ("run", f"{report.run.number} of {style.clean(report.run.name)}"),
        ("stage", style.clean(in_stage.name)),
        ("driver", style.clean(it.driver) + (f", image {style.clean(it.image)}" if it.image else "")),
        ("needs", "all earlier stages" if it.needs is None else style.clean(", ".join(it.needs)) or "nothing"),
        ("when", it.when + (", allowed to fail" if it.allow_failure else "")),
        ("started", human.moment(it.started_at, style.zone)),
        ("ended", human.moment(it.ended_at, style.zone)),
        ("queued", human.duration(it.queue_s)),
        ("took", human.duration(it.duration_s)),
    ]
    if it.kept_from is not None:
        facts.append(("kept from", human.kept(it.kept_from.run, it.kept_from.attempt)))
    if it.retry_at is not None:
        facts.append(("next try", f"not before {human.moment(it.retry_at, style.zone)}"))
    return facts


def _attempt_row(attempt: AttemptReport, style: Style) -> list[Cell]:
    return [
        Cell(f"{style.symbol(attempt.status)} {attempt.number}", PAINTS[attempt.status]),
        Cell(attempt.status.value, PAINTS[attempt.status]),
        Cell(style.clean(attempt.reason or "")),
        Cell(human.NOTHING if attempt.exit_code is None else str(attempt.exit_code)),
        Cell(human.moment(attempt.started_at, style.zone)),
        Cell(human.duration(attempt.setup_s)),
        Cell(human.duration(attempt.duration_s)),
        Cell(style.clean(attempt.message or ""), DIM),
    ]


def _log_command(it: RunReport, found: JobReport, style: Style) -> str:
    return human.log_command(it.number, style.clean(found.name))


# ----------------------------------------------------------------------------------------------------------- pieces


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _spaced(lines: list[str]) -> list[str]:
    return ["", *lines] if lines else []


def _facts(facts: Sequence[tuple[str, str]]) -> list[str]:
    wide = max(len(name) for name, _ in facts)
    return [f"  {name:<{wide}}  {value}" for name, value in facts]


def _table(style: Style, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    return style.table(header, rows, right=frozenset(i for i, name in enumerate(header) if name in NUMERIC))


def _title(style: Style, status: Status, name: str, result: str) -> str:
    paint = PAINTS[status]
    return f"{style.paint(style.symbol(status), paint)} {style.paint(name, BOLD)}: {style.paint(result, paint)}"


def _run_name(it: RunReport, style: Style) -> str:
    return f"Run {it.number} of {style.clean(it.name)}"


def _commit(it: RunReport, style: Style) -> str:
    place = f"branch {style.clean(it.branch)}" if it.branch else f"tag {style.clean(it.tag)}" if it.tag else ""
    message = cut(style.clean(human.first_line(it.commit_message)), style.columns // 2, style.ellipsis)
    return " ".join(
        part for part in (style.clean(it.commit or "")[: human.SHORT_COMMIT], message, place and f"({place})") if part
    )


def _counts(report: Report) -> str:
    told = [f"{number} {status.value}" for status, number in report.counts.items() if number]
    total = sum(report.counts.values())
    return f"{total}: {', '.join(told)}" if told else "none"


def _allowed(it: JobReport) -> bool:
    return it.allow_failure and it.status is Status.FAILED


def _paint(it: JobReport) -> str:
    return YELLOW if _allowed(it) else PAINTS[it.status]


def _result(it: JobReport, style: Style) -> str:
    return it.status.value if it.reason is None else f"{it.status.value} ({style.clean(it.reason)})"


def _why(it: JobReport, style: Style) -> str:
    by_code = it.reason == Reason.EXIT_CODE and it.exit_code is not None
    parts = [] if by_code else [style.clean(it.reason or "failed")]
    if it.exit_code is not None:
        parts.append(f"exit code {it.exit_code}")
    if len(it.attempts) > 1:
        parts.append(f"attempt {len(it.attempts)} of {it.max_attempts}")
    return ", ".join(parts)


def _not_found(kind: str, name: str, known: Iterable[str], it: RunReport) -> NotFoundError:
    names = list(known)
    close = get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(map(repr, names[:10]))}" if names else None
    return NotFoundError(f"run {it.number} has no {kind} {name!r}", hint=hint)
