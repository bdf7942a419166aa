"""The bars of the HTML report: for each job one SVG picture on a time axis that all share.

Every x is a percentage and no picture holds text that would be scaled, so that the pictures are as wide as the page gives them
and stay sharp on a phone. Colours are classes; the page's style sheet knows them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from html import escape
from typing import Final

from stretto.core.frozen import frozen
from stretto.reports import human
from stretto.reports.model import AttemptReport, JobReport, Report
from stretto.reports.terminal import plain

MAX_TICKS: Final = 6
MIN_SPAN_S: Final = 0.01
STEPS_S: Final = (
    *(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 14400, 21600, 43200, 86400),
)
"""Distances between the lines of the axis that people can count with."""


@frozen
class Axis:
    """The time from `start`, over `span_s` seconds, as 0 to 100 percent."""

    start: datetime
    span_s: float

    def percent(self, at: datetime) -> float:
        """Return where this time is on the axis."""
        share = (at - self.start).total_seconds() / self.span_s
        return round(100 * min(1.0, max(0.0, share)), 3)

    def ticks(self) -> list[tuple[float, str]]:
        """Return where the lines of the axis are, in percent, and what stands at each."""
        days = 86400 * (1 + int(self.span_s / 86400 / MAX_TICKS))
        step = next((step for step in STEPS_S if self.span_s / step <= MAX_TICKS), days)
        return [
            (round(100 * i * step / self.span_s, 3), tick_label(i * step)) for i in range(int(self.span_s / step) + 1)
        ]


def axis(report: Report) -> Axis:
    """Return the axis of a report: from the run's start to its end, or to the report's own time while it is not over."""
    start = report.run.started_at or report.run.created_at
    end = report.run.ended_at or report.generated_at
    return Axis(start, max(MIN_SPAN_S, (end - start).total_seconds()))


def tick_label(seconds: float) -> str:
    """Return a round number of seconds in at most two units: `0`, `0.5 s`, `30 s`, `1 m 30 s`, `2 h`."""
    if seconds < 60:
        return f"{round(seconds, 3):g} s" if seconds else "0"
    whole = round(seconds)
    for unit_s, unit, part_s, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit_s:
            rest = whole % unit_s // part_s
            return f"{whole // unit_s} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"


def scale(axis: Axis) -> str:
    """Return the picture with the axis's labels, and with the grid that every other picture of the page uses."""
    ticks = axis.ticks()
    lines = "".join(f'<line x1="{x}%" x2="{x}%" y1="0" y2="100%"/>' for x, _ in ticks)
    labels = "".join(
        f'<text x="{x}%" y="13"{_anchor(x)}>{label}</text>' for x, label in ticks if x <= 97 or x == ticks[-1][0]
    )
    return (
        f'<svg class="scale" width="100%" height="18" aria-hidden="true">'
        f'<defs><g id="grid">{lines}</g></defs>{labels}</svg>'
    )


def bars(job: JobReport, axis: Axis, *, critical: bool, now: datetime) -> str:
    """Return the picture of one job: its wait in the queue, its attempts with their set-up, and the critical path's mark."""
    shapes = ['<use href="#grid" class="grid"/>']
    if job.ready_at is not None and job.queue_s is not None:
        shapes.append(_rect("queued", axis, job.ready_at, job.started_at or now, y=10, height=4))
    if job.started_at is not None:
        end = job.ended_at or now
        if len(job.attempts) > 1:
            shapes.append(_rect("pause", axis, job.started_at, end, y=11, height=2))
        shapes += [_attempt(attempt, axis, job, now) for attempt in job.attempts]
        if critical:
            shapes.append(_rect("path", axis, job.started_at, end, y=21, height=3))
    label = _told(job, axis, critical)
    return f'<svg class="bars" width="100%" height="24" role="img" aria-label="{label}">{"".join(shapes)}</svg>'


def _attempt(attempt: AttemptReport, axis: Axis, job: JobReport, now: datetime) -> str:
    end = attempt.ended_at or now
    color = "allowed" if job.allow_failure and attempt.status == "failed" else attempt.status.value
    reason = f" ({escape(plain(attempt.reason))})" if attempt.reason else ""
    tip = f"attempt {attempt.number}: {attempt.status}{reason}, {human.duration(attempt.duration_s)}"
    ready_at = end if attempt.setup_s is None else min(end, attempt.started_at + timedelta(seconds=attempt.setup_s))
    setup = _rect(f"setup {color}", axis, attempt.started_at, ready_at, y=4, height=16)
    script = _rect(f"script {color}", axis, ready_at, end, y=4, height=16) if attempt.setup_s is not None else ""
    return f"<g><title>{tip}</title>{setup}{script}</g>"


def _rect(color: str, axis: Axis, start: datetime, end: datetime, *, y: int, height: int) -> str:
    x = axis.percent(start)
    wide = round(axis.percent(end) - x, 3)
    return f'<rect class="{color}" x="{x}%" y="{y}" width="{max(wide, 0)}%" height="{height}"/>'


def _told(job: JobReport, axis: Axis, critical: bool) -> str:
    """Return the picture in words, for those who do not see it."""
    parts = []
    if job.queue_s is not None:
        parts.append(f"queued {human.duration(job.queue_s)}")
    if job.started_at is not None:
        after = max(0.0, (job.started_at - axis.start).total_seconds())
        parts.append(f"started {human.duration(after)} into the run, took {human.duration(job.duration_s)}")
        parts.append(human.count(len(job.attempts), "attempt"))
    if critical:
        parts.append("on the critical path")
    return ", ".join(parts) or "did not run"


def _anchor(x: float) -> str:
    return ' text-anchor="end"' if x > 97 else ' text-anchor="middle"' if x > 3 else ""
