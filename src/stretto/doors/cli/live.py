"""What a person sees while a run goes on, on a terminal: a table of what runs, redrawn in place, gone at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from stretto.core import events as ev
from stretto.core.run import JobRun, Run
from stretto.core.states import FINAL, Status
from stretto.doors.cli.progress import place_of
from stretto.doors.cli.text import clip, pad, width
from stretto.reports import human
from stretto.reports.terminal import DIM, PAINTS, Style

REDRAWS_A_SECOND: Final = 8
RESERVED_LINES: Final = 4
"""Lines of the screen that are not used: the shell's prompt above and our own summary."""


class LiveProgress:
    """Draws the jobs that run, wait or failed, each with its last line of output; what is done is counted."""

    def __init__(self, stream: TextIO, style: Style, title: str) -> None:
        self._style = style
        self._title = title
        self._begun = time.monotonic()
        self._rows: list[tuple[JobRun, Status, datetime | None]] = []
        self._last_lines: dict[str, str] = {}
        self._lock = threading.Lock()
        self._console = Console(file=stream, force_terminal=True, no_color=not style.color, highlight=False)
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=REDRAWS_A_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def see(self, run: Run, events: Sequence[ev.Event]) -> None:
        """Take a picture of the run, for the drawing thread."""
        rows = [(job, job.status, job.attempts[-1].starting_at if job.attempts else None) for job in run.jobs]
        with self._lock:
            self._rows = rows

    def show_output(self, job: str, line: str) -> None:
        """Remember the last line of a job's output; it is harmless already."""
        self._last_lines[job] = line

    def say(self, line: str) -> None:
        """Write a line above the table."""
        self._console.print(Text.from_ansi(line))

    def close(self) -> None:
        """Take the table away."""
        self._live.stop()

    def _draw(self) -> Text:
        with self._lock:
            rows = self._rows
        now, columns = datetime.now(UTC), self._console.width
        busy = [row for row in rows if row[1] is Status.RUNNING]
        failed = [row for row in rows if row[1] in (Status.FAILED, Status.CANCELED)]
        waiting = [row for row in rows if row[1] in (Status.PENDING, Status.QUEUED)]
        room = max(3, self._console.height - RESERVED_LINES)
        shown = (failed[-room // 2 :] + busy + waiting)[:room]
        cells = max((width(place_of(job, self._style)) for job, _, _ in shown), default=0)
        lines = [self._line(job, status, since, now, cells, columns) for job, status, since in shown]
        done = sum(status in FINAL for _, status, _ in rows)
        counts = f"{done} of {human.count(len(rows), 'job')} over, {len(busy)} running"
        took = human.duration(time.monotonic() - self._begun)
        head = clip(f"{self._title}  {counts}, {took}", columns)
        return Text.from_ansi("\n".join([head, *lines]))

    def _line(
        self, job: JobRun, status: Status, since: datetime | None, now: datetime, cells: int, columns: int
    ) -> str:
        style = self._style
        place = pad(place_of(job, style), cells)
        took = ""
        if since is not None:
            took = human.duration(((job.ended_at or now) - since).total_seconds())
        text = clip(f"{style.symbol(status)} {place}  {took:>9}", columns)
        last = self._last_lines.get(job.spec.name, "") if status is Status.RUNNING else ""
        tail = clip(last, max(0, columns - width(text) - 2))
        return style.paint(text, PAINTS[status]) + (f"  {style.paint(tail, DIM)}" if tail else "")
