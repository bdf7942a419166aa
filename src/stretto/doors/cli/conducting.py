"""Carries a run on in this process while a person watches: progress, signals, the report at the end."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from typing import Final, TextIO

from stretto.core import events as ev
from stretto.core.ports import RunRow
from stretto.core.run import Run
from stretto.core.states import Status
from stretto.doors.cli.failure import INTERRUPTED
from stretto.doors.cli.follow import Follower, tail
from stretto.doors.cli.options import Options, columns, is_terminal, say
from stretto.doors.cli.progress import PlainProgress, Progress, Silence, headline
from stretto.reports import human, text
from stretto.reports.model import Report, exit_code, to_json
from stretto.reports.terminal import Style
from stretto.waist import LogRequest, Waist

TAIL_LINES: Final = 20
"""How much of a failed job's output is shown: a traceback fits, a build log does not."""
TAILS_AT_MOST: Final = 5
LAST_LINES_TIMEOUT_S: Final = 2.0


async def conduct(waist: Waist, row: RunRow, options: Options, *, jobs: int | None = None) -> int:
    """Conduct the run, show it, print its report, and return the exit code."""
    return await _Conducting(waist, row, options, jobs).run()


class _Conducting:
    def __init__(self, waist: Waist, row: RunRow, options: Options, jobs: int | None) -> None:
        self._waist = waist
        self._row = row
        self._options = options
        self._jobs = jobs
        self._stream = sys.stderr if options.json else sys.stdout
        self._style = style_for(self._stream, options)
        self._interrupts = 0
        self._handed_over = False
        self._progress: Progress = Silence()
        self._task: asyncio.Task[Report] | None = None
        self._asking: set[asyncio.Task[RunRow]] = set()

    async def run(self) -> int:
        self._progress = self._open_progress()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._interrupt if number == signal.SIGINT else self._hand_over)
        try:
            report = await self._conduct()
        except asyncio.CancelledError:
            if not self._handed_over:
                raise
            say(f"run {self._row.number} was left as it is: what runs goes on; resume with: {self._resume()}", err=True)
            return INTERRUPTED
        finally:
            self._progress.close()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)
        await self._show(report)
        return INTERRUPTED if self._interrupts else exit_code(report)

    async def _conduct(self) -> Report:
        async with asyncio.TaskGroup() as group:
            follower = Follower(self._waist, self._row.id, group, self._show_output) if self._wants_output() else None

            def watch(run: Run, events: Sequence[ev.Event]) -> None:
                self._progress.see(run, events)
                if follower is not None:
                    follower.see(run, events)

            self._task = group.create_task(self._waist.conduct(self._row.id, jobs=self._jobs, watch=watch), name="run")
            report = await self._task
            if follower is not None:
                await follower.finish(LAST_LINES_TIMEOUT_S)
        return report

    # ------------------------------------------------------------------------------------------------------ signals

    def _interrupt(self) -> None:
        """First: cancel. Again: kill."""
        self._interrupts += 1
        again = self._interrupts > 1
        self._progress.say("killing what runs" if again else "canceling the run; Ctrl-C again kills what runs")
        asking = asyncio.create_task(self._waist.cancel(self._row.id, by="Ctrl-C", force=again), name="cancel")
        self._asking.add(asking)
        asking.add_done_callback(self._cancel_asked)

    def _cancel_asked(self, asking: asyncio.Task[RunRow]) -> None:
        self._asking.discard(asking)
        if not asking.cancelled() and (error := asking.exception()) is not None:
            self._progress.say(f"not canceled: {error}")

    def _hand_over(self) -> None:
        self._handed_over = True
        if self._task is not None:
            self._task.cancel()

    # ------------------------------------------------------------------------------------------------------ showing

    def _open_progress(self) -> Progress:
        if self._options.quiet:
            return Silence()
        if is_terminal(self._stream) and not self._options.verbose:
            from stretto.doors.cli.live import LiveProgress  # rich takes a tenth of a second to import

            return LiveProgress(self._stream, self._style, headline(self._row, self._style))
        progress = PlainProgress(self._stream, self._style)
        progress.say(headline(self._row, self._style))
        return progress

    def _wants_output(self) -> bool:
        return not self._options.quiet and (self._options.verbose or is_terminal(self._stream))

    def _show_output(self, job: str, line: str) -> None:
        if isinstance(self._progress, PlainProgress):
            self._progress.say(f"{self._style.clean(job)} | {line}")
        elif (show := getattr(self._progress, "show_output", None)) is not None:
            show(job, line)

    async def _show(self, report: Report) -> None:
        if self._options.json:
            say(json.dumps(to_json(report)))
            return
        if not self._options.verbose:
            await self._show_tails(report)
        if self._options.quiet:
            return
        sys.stdout.write("\n" + text.run(report, style_for(sys.stdout, self._options)))
        sys.stdout.flush()

    async def _show_tails(self, report: Report) -> None:
        failed = [job for _, job in report.jobs() if job.status is Status.FAILED and job.attempts]
        for job in failed[:TAILS_AT_MOST]:
            last = await tail(self._waist, LogRequest(self._row.id, job.name), TAIL_LINES)
            if last:
                command = human.log_command(self._row.number, job.name)
                head = f"last lines of {self._style.clean(job.name)} (all: {command})"
                say(
                    "\n".join(["", self._style.paint(head, "1"), *(f"  {line}" for line in last)]),
                    err=self._options.json,
                )

    def _resume(self) -> str:
        return f"stretto resume {self._row.number}"


def style_for(stream: TextIO, options: Options) -> Style:
    """Return how to write to this stream."""
    encoding = (stream.encoding or "ascii").lower().replace("-", "")
    wide = columns(stream)
    return Style(
        color=options.paint(stream).enabled,
        unicode=encoding == "utf8",
        columns=wide if wide is not None else Style().columns,
    )
