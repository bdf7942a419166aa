"""What a person sees while a run goes on, in a pipe: a line per change, flushed as it happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TextIO

from stretto.core import events as ev
from stretto.core.ports import RunRow
from stretto.core.run import JobRun, Run
from stretto.core.states import FINAL, Status
from stretto.doors.cli.text import output_line
from stretto.reports import human
from stretto.reports.terminal import DIM, PAINTS, Style, width


class Progress(Protocol):
    """Shows a run. `see` is called from the engine's loop and must not block.

    `output` is only called where `wants_output` says so.
    """

    wants_output: bool

    def see(self, run: Run, events: Sequence[ev.Event]) -> None:
        """Take in events that are on disk; the run has them applied."""

    def output(self, run: str, job: str, line: bytes) -> None:
        """Take in a line that a job of the run (its id) wrote."""

    def say(self, line: str) -> None:
        """Show a line of our own."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Silence:
    """Shows nothing."""

    wants_output = False

    def see(self, run: Run, events: Sequence[ev.Event]) -> None:
        """Show nothing."""

    def output(self, run: str, job: str, line: bytes) -> None:
        """Show nothing."""

    def say(self, line: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing to do."""


class PlainProgress:
    """One line per change: seconds since the start, the pipeline where `names_runs`, stage, job, what happened."""

    def __init__(
        self,
        stream: TextIO,
        style: Style,
        *,
        wants_output: bool = False,
        names_runs: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._style = style
        self.wants_output = wants_output
        self._clock = clock
        self._begun = clock()
        self._names_runs = names_runs
        self._names: dict[str, str] = {}
        self._cells = 0
        self._reader_is_gone = False

    def see(self, run: Run, events: Sequence[ev.Event]) -> None:
        """Write a line for each event that tells a person something."""
        if run.id not in self._names:
            self._names[run.id] = f"{self._style.clean(run.spec.name)}: " if self._names_runs else ""
            places = [width(self._place(run, job.spec.name)) for job in run.jobs]
            self._cells = max(self._cells, *places, 0)
        for event in events:
            if (told := tell(run, event, self._style)) is not None:
                place = self._place(run, getattr(event, "job", None))
                self.say(f"{place}{' ' * (self._cells - width(place))}  {told}")

    def output(self, run: str, job: str, line: bytes) -> None:
        """Write a line of a job's output behind the job's name."""
        name = self._names.get(run, "") + self._style.clean(job)
        self._write(f"{self._style.paint(f'{name} |', DIM)} {self._style.clean(output_line(line))}")

    def _place(self, run: Run, job: str | None) -> str:
        return self._names[run.id] + (place_of(run.job(job), self._style) if job else "run")

    def say(self, line: str) -> None:
        """Write a line with the time."""
        self._write(f"{self._clock() - self._begun:7.1f} s  {line}".rstrip())

    def _write(self, line: str) -> None:
        """Write and flush; a run goes on whether or not somebody still reads."""
        if self._reader_is_gone:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except BrokenPipeError:
            self._reader_is_gone = True

    def close(self) -> None:
        """Nothing to do."""


def tell(run: Run, event: ev.Event, style: Style) -> str | None:
    """Return what an event means for the job (or run) it is about; None where it means nothing to a person."""
    match event:
        case ev.AttemptStarting(number=number):
            return painted(Status.RUNNING, style) + (f", attempt {number}" if number > 1 else "")
        case ev.AttemptEnded(job=name, outcome=outcome):
            job = run.job(name)
            if job.status in FINAL:
                return _ended(job, style)
            return f"attempt {len(job.attempts)} failed{_why(outcome.reason, outcome.exit_code)}"
        case ev.JobEnded(job=name):
            return _ended(run.job(name), style)
        case ev.JobRetried(at=at, not_before=not_before):
            return f"will be tried again in {human.duration((not_before - at).total_seconds())}"
        case ev.StopRequested(reason=reason):
            return f"being stopped: {reason}"
        case ev.CancelRequested(job=None, by=by):
            return "cancel requested" + (f" by {style.clean(by)}" if by else "")
        case ev.RunTimedOut():
            return "the run's time limit was reached"
        case _:
            return None


def headline(row: RunRow, style: Style) -> str:
    """Return the first line about a run: number, pipeline, commit."""
    commit = f", commit {row.commit[: human.SHORT_COMMIT]}" if row.commit else ""
    subject = style.clean(human.first_line(row.commit_message))
    return f"run {row.number}: {style.clean(row.name)}{commit} {subject}".rstrip()


def _ended(job: JobRun, style: Style) -> str:
    took = ""
    if job.started_at is not None and job.ended_at is not None:
        took = f" in {human.duration((job.ended_at - job.started_at).total_seconds())}"
    message = f": {style.clean(job.message)}" if job.message and job.reason not in (None, "exit_code") else ""
    return f"{painted(job.status, style)}{took}{_why(job.reason, job.exit_code)}{message}"


def _why(reason: str | None, exit_code: int | None) -> str:
    words = human.why(reason, exit_code)
    return f" ({words})" if words else ""


def place_of(job: JobRun, style: Style) -> str:
    """Return where a job stands: its stage and its name."""
    return f"{style.clean(job.spec.stage)} / {style.clean(job.spec.name)}"


def painted(status: Status, style: Style) -> str:
    """Return a status in its colour."""
    return style.paint(str(status), PAINTS[status])
