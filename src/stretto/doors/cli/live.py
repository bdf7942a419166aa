"""What a person sees on a terminal while a run goes on: stages and jobs with status, time and the last line of what runs.

`picture` decides what is shown and is pure; `LiveProgress` draws it, with rich, which nothing else in the command line imports.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from stretto.core import events as ev
from stretto.core.run import JobRun, Run
from stretto.core.states import FINAL, Reason, Status
from stretto.doors.cli.text import output_line
from stretto.reports import human
from stretto.reports.terminal import BOLD, DIM, PAINTS, YELLOW, Style, cut, width

REFRESH_S: Final = 0.1
"""Often enough to look alive, seldom enough to cost nothing."""
ROWS_KEPT: Final = 2
"""Rows of the terminal that the pictures leave alone: what the cursor needs."""
MAX_JOB_CELLS: Final = 32


class LiveProgress:
    """Draws the runs of one command in place. Make it within a running loop; `close` leaves the terminal as it was.

    The last picture of a run stays if it is not over, or if `leaves_picture` says that nothing else will tell of it there.
    """

    wants_output = True

    def __init__(self, stream: TextIO, style: Style, *, leaves_picture: bool) -> None:
        self._leaves_picture = leaves_picture
        self._style = style
        self._runs: dict[str, Run] = {}
        self._last: dict[str, dict[str, bytes]] = {}
        self._console = Console(
            file=stream, force_terminal=True, no_color=not style.color, highlight=False, markup=False, emoji=False
        )
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()
        self._drawing = asyncio.create_task(self._draw(), name="draw")

    def see(self, run: Run, events: Sequence[ev.Event]) -> None:
        """Take in the run; it is drawn with the next refresh."""
        self._runs[run.id] = run

    def output(self, run: str, job: str, line: bytes) -> None:
        """Keep the line, to be shown beside its job."""
        if line.strip():
            self._last.setdefault(run, {})[job] = line

    def say(self, line: str) -> None:
        """Print a line above the picture."""
        self._console.print(Text.from_ansi(line), soft_wrap=True)

    def close(self) -> None:
        """Stop drawing, and leave whole last pictures behind."""
        self._drawing.cancel()
        self._live.stop()
        for run in self._runs.values():
            if run.is_over and not self._leaves_picture:
                continue
            lines = picture(run, {}, self._style, now=datetime.now(UTC), rows=None)
            self._console.print(Text.from_ansi("\n".join(lines)), soft_wrap=True)

    async def _draw(self) -> None:
        while True:
            size = shutil.get_terminal_size()
            style = Style(self._style.color, self._style.unicode, size.columns - 1, self._style.zone)
            several = len(self._runs) > 1
            rows = (size.lines - ROWS_KEPT) // max(1, len(self._runs)) - 1 - several
            lines = []
            for run in self._runs.values():
                if several:
                    lines.append(style.paint(cut(style.clean(run.spec.name), style.columns, style.ellipsis), BOLD))
                lines += picture(run, self._last.get(run.id, {}), style, now=datetime.now(UTC), rows=max(1, rows))
            self._live.update(Text.from_ansi("\n".join(lines), no_wrap=True, overflow="crop"), refresh=True)
            await asyncio.sleep(REFRESH_S)


def picture(run: Run, last: Mapping[str, bytes], style: Style, *, now: datetime, rows: int | None) -> list[str]:
    """Return the run as lines: every job if `rows` allow, else calm stages in one line each, else what runs and what failed.

    `last` has each job's last line of output. `rows` None means that there is room for everything.
    """
    cells = min(MAX_JOB_CELLS, max((width(style.clean(job.spec.name)) for job in run.jobs), default=0))
    blocks = [(i, [run.jobs[j] for j in members]) for i, members in enumerate(run.graph.members) if members]
    full = [_stage(run, i, style) for i, _ in blocks]
    jobs = [[_job(run, job, last, style, cells, now) for job in members] for _, members in blocks]
    lines = [line for head, below in zip(full, jobs, strict=True) for line in (head, *below)]
    if rows is not None and len(lines) > rows:
        lines = []
        for (i, members), head, below in zip(blocks, full, jobs, strict=True):
            calm = run.stage_status(i) in (Status.SUCCESS, Status.SKIPPED, Status.PENDING)
            lines += [f"{head}  {style.paint(_tally(members), DIM)}"] if calm else [head, *below]
    if rows is not None and len(lines) > rows:
        lively = [job for job in run.jobs if job.index in run.running or job.status is Status.FAILED]
        lively.sort(key=lambda job: job.status is Status.FAILED)
        lines = [_job(run, job, last, style, cells, now) for job in lively]
        if len(lines) > rows - 1:
            lines = [*lines[: max(0, rows - 1)], style.paint(f"  and {len(lively) - max(0, rows - 1)} more", DIM)]
    return [*lines, _footer(run, style, now)]


def _stage(run: Run, stage: int, style: Style) -> str:
    status = run.stage_status(stage)
    name = style.clean(run.spec.stages[stage])
    return style.paint(name, BOLD if status not in (Status.PENDING, Status.SKIPPED) else DIM)


def _job(run: Run, job: JobRun, last: Mapping[str, bytes], style: Style, cells: int, now: datetime) -> str:
    allowed = job.status is Status.FAILED and job.spec.allow_failure
    paint = YELLOW if allowed else PAINTS[job.status]
    name = cut(style.clean(job.spec.name), cells, style.ellipsis)
    took = ""
    if job.started_at is not None:
        took = human.duration(max(0.0, ((job.ended_at or now) - job.started_at).total_seconds()))
    left = f"  {style.symbol(job.status)} {name}{' ' * (cells - width(name))}  {took:>9}"
    note = cut(style.clean(_note(run, job, last)), max(0, style.columns - width(left) - 2), style.ellipsis)
    coloured = f"  {style.paint(style.symbol(job.status), paint)} {left[4:]}"
    return f"{coloured}  {style.paint(note, paint if job.status in FINAL else DIM)}".rstrip()


def _note(run: Run, job: JobRun, last: Mapping[str, bytes]) -> str:
    """Return what is to be said of a job in a few words."""
    if job.index in run.running:
        attempt = f"attempt {len(job.attempts)}: " if len(job.attempts) > 1 else ""
        return attempt + output_line(last.get(job.spec.name, b""))
    if job.status is Status.QUEUED:
        return "waits for a slot"
    if job.status is Status.PENDING and job.attempts:
        return f"failed, will be tried again ({len(job.attempts)} of {1 + job.spec.retry.max_retries})"
    if job.kept is not None:
        return f"kept from run {job.kept.run}"
    if job.status in (Status.PENDING, Status.SUCCESS):
        return ""
    why = human.why(job.reason, job.exit_code)
    return f"{why}, allowed to fail" if job.status is Status.FAILED and job.spec.allow_failure else why


def _tally(jobs: Sequence[JobRun]) -> str:
    counts = {status: sum(job.status is status for job in jobs) for status in Status}
    return ", ".join(f"{number} {status}" for status, number in counts.items() if number)


def _footer(run: Run, style: Style, now: datetime) -> str:
    began = run.started_at or run.created_at or now
    took = human.duration(max(0.0, ((run.ended_at or now) - began).total_seconds()))
    if run.is_over:
        return style.paint(f"{len(run.jobs)} jobs: {_tally(run.jobs)} in {took}", DIM)
    key = "Ctrl-C kills what runs" if run.stopping == Reason.CANCEL_REQUESTED else "Ctrl-C cancels"
    return style.paint(cut(f"{_tally(run.jobs)}, {took}; {key}", style.columns, style.ellipsis), DIM)
