"""Carries runs to their end while a person watches: progress, output, signals, and what is told at the end.

Ctrl-C cancels; a second one kills what runs; a third one leaves the run as it is. SIGTERM and SIGHUP hand over: jobs go on, the
run is carried on by `stretto resume`.
"""

from __future__ import annotations

import asyncio
import functools
import json
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from stretto.core import events as ev
from stretto.core.errors import InputError, ServerError, StrettoError
from stretto.core.ports import RunRow
from stretto.core.run import Run
from stretto.core.states import Reason, Status
from stretto.doors.cli.failure import INTERRUPTED
from stretto.doors.cli.logs import last_lines
from stretto.doors.cli.options import Options, is_terminal, say
from stretto.doors.cli.progress import PlainProgress, Progress, Silence, headline
from stretto.doors.cli.request import user
from stretto.doors.cli.text import output_line
from stretto.reports import human, text
from stretto.reports.model import (
    EXIT_CANCELED,
    EXIT_FAILED,
    EXIT_SUCCESS,
    EXIT_TIMED_OUT,
    JobReport,
    Report,
    RunReport,
    exit_code,
    to_json,
)
from stretto.reports.terminal import DIM, PAINTS, YELLOW, Style
from stretto.waist import LogRequest, Waist

SHOWN_LINES: Final = 20
"""How much of a failed job's output is shown: enough for most errors, little enough to read."""
SHOWN_FAILURES: Final = 5
OUTPUT_GRACE_S: Final = 5.0
"""How long the output of a job that is over may take to be shown."""
SEVERITY: Final = (EXIT_SUCCESS, EXIT_CANCELED, EXIT_TIMED_OUT, EXIT_FAILED)
"""Of several runs the worst one gives the exit code."""


def progress_for(options: Options, *, runs: int = 1) -> Progress:
    """Return what shows the runs: a live picture on a terminal, lines elsewhere, nothing if that is wanted.

    With `--json` stdout is for the report, so progress goes to stderr.
    """
    stream = sys.stderr if options.json else sys.stdout
    if options.quiet:
        return Silence()
    if is_terminal(stream) and not options.verbose:
        from stretto.doors.cli.live import LiveProgress

        return LiveProgress(stream, options.style(stream), leaves_picture=options.json)
    return PlainProgress(stream, options.style(stream), wants_output=options.verbose, names_runs=runs > 1)


def show_headlines(progress: Progress, options: Options, rows: Sequence[RunRow]) -> None:
    """Show a line for each run that begins."""
    style = options.style(sys.stderr if options.json else sys.stdout)
    for row in rows:
        progress.say(headline(row, style))


class Carrier:
    """Carries the runs of one command. Use once."""

    def __init__(self, waist: Waist, options: Options, progress: Progress, *, jobs: int | None = None) -> None:
        self._waist = waist
        self._options = options
        self._progress = progress
        self._jobs = jobs
        self._interrupts = 0
        self._signal: signal.Signals | None = None
        self._tasks: list[asyncio.Task[Report]] = []
        self._asides: set[asyncio.Task[None]] = set()
        self._followers: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._runs: Sequence[str] = ()

    async def carry(self, runs: Sequence[str]) -> tuple[list[Report], int]:
        """Carry the runs to their end; return their reports (none if it was cut short) and the exit code."""
        self._runs = runs
        loop = asyncio.get_running_loop()
        handled = {signal.SIGINT: self._interrupt, signal.SIGTERM: self._hand_over, signal.SIGHUP: self._hand_over}
        for number, handle in handled.items():
            loop.add_signal_handler(number, handle, number)
        try:
            self._tasks = [
                asyncio.create_task(self._waist.conduct(run, jobs=self._jobs, watch=self._see), name=f"run {run}")
                for run in runs
            ]
            await asyncio.wait(self._tasks)
            await self._finish_output()
        except asyncio.CancelledError:  # Ctrl-C came before it was ours to handle
            self._tell_how_to_resume()
            raise
        finally:
            for number in handled:
                loop.remove_signal_handler(number)
            for task in (*self._tasks, *self._followers.values(), *self._asides):
                task.cancel()
            await asyncio.gather(*self._tasks, *self._followers.values(), *self._asides, return_exceptions=True)
            self._progress.close()
        if self._signal is not None or any(task.cancelled() for task in self._tasks):
            self._tell_how_to_resume()
            return [], INTERRUPTED
        reports = [task.result() for task in self._tasks]
        code = max((exit_code(report) for report in reports), key=SEVERITY.index, default=EXIT_SUCCESS)
        return reports, INTERRUPTED if self._interrupts else code

    # ------------------------------------------------------------------------------------------------------ signals

    def _interrupt(self, number: signal.Signals) -> None:
        self._interrupts += 1
        if self._interrupts > 2:
            self._hand_over(number)
            return
        force = self._interrupts == 2
        told = "killing what runs" if force else "canceling; Ctrl-C again kills what runs"
        self._progress.say(f"interrupted: {told}")
        for run in self._runs:
            self._aside(self._cancel(run, force=force))

    async def _cancel(self, run: str, *, force: bool) -> None:
        try:
            await self._waist.cancel(run, by=user(), force=force)
        except InputError:
            pass  # it was over before
        except ServerError as error:
            self._progress.say(f"the server was not told to cancel: {error.message}")

    def _hand_over(self, number: signal.Signals) -> None:
        self._signal = number
        for task in self._tasks:
            task.cancel()

    def _tell_how_to_resume(self) -> None:
        name = self._signal.name if self._signal is not None else "interrupted"
        for run in self._runs:
            if self._waist.is_server:
                told = f"run {run} goes on at the server; follow it"
            else:
                told = f"run {run} is left as it is, its jobs go on; carry it on"
            say(f"{name}: {told} with `stretto resume {run}`", err=True)

    def _aside(self, doing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(doing)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    # ------------------------------------------------------------------------------------------------------- output

    def _see(self, run: Run, events: Sequence[ev.Event]) -> None:
        """Show events, each job's end after the last of its output where that is shown."""
        for event in events:
            if type(event) is ev.AttemptStarting and self._progress.wants_output:
                self._followers[run.id, event.job] = asyncio.create_task(
                    self._follow(run.id, event.job, event.number), name=f"follow {event.job}"
                )
            follower = self._followers.get((run.id, getattr(event, "job", None) or ""))
            if type(event) is ev.AttemptEnded and follower is not None and self._options.verbose:
                follower.add_done_callback(functools.partial(self._see_later, run, event))
            else:
                self._progress.see(run, [event])

    def _see_later(self, run: Run, event: ev.Event, _: asyncio.Task[None]) -> None:
        self._progress.see(run, [event])

    async def _follow(self, run: str, job: str, attempt: int) -> None:
        """Hand the lines of an attempt to the progress as they come."""
        rest = b""
        try:
            async for chunk in self._waist.logs(LogRequest(run, job, attempt, follow=True)):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines if self._options.verbose else lines[-1:]:
                    self._progress.output(run, job, line)
            if rest:
                self._progress.output(run, job, rest)
        except StrettoError:
            pass  # the run goes on without its output on the screen; it is kept all the same

    async def _finish_output(self) -> None:
        if self._followers and self._signal is None:
            await asyncio.wait(self._followers.values(), timeout=OUTPUT_GRACE_S)


async def tell(waist: Waist, options: Options, reports: Sequence[Report]) -> None:
    """Print how the runs ended: JSON reports, or the last output of what failed, the text report and what to do next.

    With `--quiet` one line says it all.
    """
    style = options.style(sys.stdout)
    for report in reports:
        if options.json:
            say(json.dumps(to_json(report), ensure_ascii=False))
        elif options.quiet:
            say(_summary(report.run, style))
        else:
            await _tell_failures(waist, report, style)
            say()
            sys.stdout.write(text.run(report, style))
            say(style.paint(f"\nSee it again: stretto report {report.run.number}", DIM))


def _summary(run: RunReport, style: Style) -> str:
    status = style.paint(f"{style.symbol(run.status)} {run.status.value}", PAINTS[run.status])
    words = run.message or human.why(run.reason, None)
    why = f" ({style.clean(words)})" if words else ""
    return f"run {run.number} {style.clean(run.name)}: {status} in {human.duration(run.duration_s)}{why}"


async def _tell_failures(waist: Waist, report: Report, style: Style) -> None:
    failed = [job for _, job in report.jobs() if job.status is Status.FAILED]
    failed.sort(key=lambda job: job.allow_failure)  # what stopped the run comes first
    for job in failed[:SHOWN_FAILURES]:
        await _tell_failure(waist, report.run, job, style)
    if (left := len(failed) - SHOWN_FAILURES) > 0:
        say(f"\nand {left} more that failed")


async def _tell_failure(waist: Waist, run: RunReport, job: JobReport, style: Style) -> None:
    """Print why a job failed, the end of its output, and how to see all of it."""
    name, paint = style.clean(job.name), YELLOW if job.allow_failure else PAINTS[Status.FAILED]
    by_code = job.reason == Reason.EXIT_CODE
    why = human.why(job.reason, job.exit_code) or "failed"
    allowed = ", allowed to fail" if job.allow_failure else ""
    say(f"\n{style.paint(f'{style.symbol(Status.FAILED)} {name}: {why}{allowed}', paint)}")
    if job.message and not by_code:
        say(f"  {style.clean(job.message)}")
    if not job.attempts:
        return
    try:
        lines = await last_lines(waist.logs(LogRequest(run.id, job.name)), SHOWN_LINES)
    except StrettoError as error:
        say(f"  (its output can't be shown: {style.clean(error.message)})")
        return
    for line in lines:
        say(f"  | {style.clean(output_line(line))}".rstrip())
    say(style.paint(f"  all of it: {human.log_command(run.number, name)}", DIM))
