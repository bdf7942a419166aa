"""What the live picture shows, as lines: pure, so no terminal is needed."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

from stretto.core import events as ev
from stretto.core.run import Run
from stretto.core.spec import JobSpec, RunSpec
from stretto.core.states import Status
from stretto.doors.cli.live import picture
from stretto.doors.cli.progress import PlainProgress
from stretto.doors.cli.text import output_line
from stretto.reports.terminal import Style

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _run(jobs: int) -> Run:
    """A run whose first stage has succeeded and whose second has one job that failed and the others running."""
    specs = [
        JobSpec("compile", "build", "fake"),
        *(JobSpec(f"t{i}", "test", "fake") for i in range(jobs)),
        JobSpec("ship", "deploy", "fake"),
    ]
    run = Run("r", RunSpec("pipeline", "p", ("build", "test", "deploy"), tuple(specs)))
    for event in [ev.RunSubmitted(AT), ev.RunStarted(AT), ev.AttemptStarting(AT, "compile", 1)]:
        run.apply(event)
    run.apply(ev.AttemptEnded(AT + timedelta(seconds=2), "compile", 1, ev.Outcome(Status.SUCCESS, 0)))
    for i in range(jobs):
        run.apply(ev.AttemptStarting(AT + timedelta(seconds=2), f"t{i}", 1))
    run.apply(ev.AttemptEnded(AT + timedelta(seconds=3), "t0", 1, ev.Outcome(Status.FAILED, 7, "exit_code")))
    return run


def test_picture_shows_every_job_where_there_is_room() -> None:
    """Stages with their jobs, status, time and what is to be said of each."""
    lines = picture(
        _run(2), {"t1": b"\x1b[31mhalf\rdone\x07\n"}, Style(columns=80), now=AT + timedelta(seconds=4), rows=20
    )
    assert lines == [
        "build",
        "  ✓ compile      2.0 s",
        "test",
        "  ✗ t0           1.0 s  exit code 7",
        "  ● t1           2.0 s  done\\x07",
        "deploy",
        "  · ship",
        "1 pending, 1 running, 1 success, 1 failed, 4.0 s; Ctrl-C cancels",
    ]


def test_picture_folds_calm_stages_first() -> None:
    """Where rows are short, stages in which nothing happens take one line each."""
    lines = picture(_run(3), {}, Style(), now=AT, rows=7)
    assert lines[0] == "build  1 success"
    assert lines[-2] == "deploy  1 pending"
    assert len(lines) == 7


def test_picture_never_is_taller_than_the_terminal() -> None:
    """Of a hundred jobs it shows as many as fit, what runs before what failed."""
    lines = picture(_run(100), {}, Style(), now=AT, rows=10)
    assert len(lines) == 11
    assert "t1 " in lines[0]
    assert lines[-2].strip() == "and 91 more"


def test_picture_lines_are_never_wider_than_the_terminal() -> None:
    """A job's output is cut, not wrapped."""
    lines = picture(_run(2), {"t1": b"x" * 500}, Style(columns=40), now=AT, rows=20)
    assert max(map(len, lines)) <= 40


def test_output_line_is_harmless() -> None:
    """Colours go, a progress bar shows its last state, controls and broken UTF-8 are visible."""
    assert output_line(b"\x1b[1;31mred\x1b[0m\n") == "red"
    assert output_line(b"10%\r20%\r\n") == "20%"
    assert output_line(b"a\x00b\xff") == "a\\x00b\ufffd"
    assert output_line(b"\x1b]0;title\x07x") == "x"


def test_plain_progress_of_several_runs_names_the_pipeline() -> None:
    """Where two runs go on at once, each line, a job's output too, says of which pipeline it is."""
    stream, run = io.StringIO(), _run(1)
    progress = PlainProgress(stream, Style(), names_runs=True, clock=lambda: 0.0)
    progress.see(run, [ev.AttemptStarting(AT, "compile", 1), ev.CancelRequested(AT, None, "ann")])
    progress.output("r", "compile", b"hi\n")
    assert stream.getvalue().splitlines() == [
        "    0.0 s  p: build / compile  running",
        "    0.0 s  p: run              cancel requested by ann",
        "p: compile | hi",
    ]
