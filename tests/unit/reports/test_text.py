"""A report as text at its levels."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from datetime import UTC, timedelta, timezone

import pytest
from hypothesis import given

from stretto.core.errors import NotFoundError
from stretto.core.states import Status
from stretto.reports import text
from stretto.reports.model import Report
from stretto.reports.terminal import Style, width
from tests.unit.reports.histories import HOSTILE, SHOP, SHOP_STORY, at, reports, row_of, shop, told, unhurried, worded

PIPE = Style(zone=UTC)


def test_run_tells_what_people_ask_for() -> None:
    """The report on a run, whole: the result, what failed and how to see its log, every job, the critical path, artifacts."""
    assert (
        text.run(shop(), PIPE)
        == """\
✗ Run 12 of shop: failed (job_failed)
  1 job failed: unit
  repository  https://git.example/shop.git
  commit      1a2b3c4d5e Sell more (branch main)
  created     2026-05-01 12:00:00 UTC
  started     2026-05-01 12:00:00 UTC, queued 0.20 s
  ended       2026-05-01 12:02:10 UTC
  took        2 m 11 s
  jobs        5: 2 success, 2 failed, 1 skipped

What failed
  ✗ unit, stage test: exit code 2, attempt 2 of 2
    the script ended with exit code 2
    stretto logs 12 unit
  ✗ docs, stage build: exit code 2 (allowed to fail)
    the script ended with exit code 2
    stretto logs 12 docs

   Stage   Job      Status   Reason               Exit  Queued      Took  Tries
✓  build   compile  success                          0  0.30 s    12.0 s      1
✗  build   docs     failed   exit_code (allowed)     2  0.50 s     2.3 s      1
✗  test    unit     failed   exit_code               2  0.10 s  1 m 58 s    2/2
✓  test    lint     success                          0  0.70 s     3.2 s      1
↷  deploy  ship     skipped  run_stopped             -       -         -      -

Critical path: compile → unit (2 m 10 s of 2 m 11 s)

Artifacts: 1 file, 123.5 kB (stretto artifacts 12)
"""
    )


def test_run_under_way_says_so() -> None:
    """A run that is not over has no end, and its time is one so far."""
    told_so_far = text.run(shop(events=8, now=10), PIPE)
    assert told_so_far.startswith("● Run 12 of shop: running\n")
    assert "took        9.8 s so far" in told_so_far
    assert "ended" not in told_so_far


def test_stage_tells_its_jobs_only() -> None:
    """The report on a stage has its jobs and no others."""
    lines = text.stage(shop(), "test", PIPE)
    assert lines.startswith("✗ Stage test: failed\n  run      12 of shop\n")
    assert "unit" in lines
    assert "lint" in lines
    assert "compile" not in lines


def test_job_tells_attempts_artifacts_and_log() -> None:
    """The report on a job has every attempt, what it left, and the command that shows its log."""
    unit = text.job(shop(), "unit", PIPE)
    assert unit.startswith("✗ Job unit: failed (exit_code)\n  the script ended with exit code 2\n")
    assert re.findall(r"^✗ (\d)  ", unit, re.MULTILINE) == ["1", "2"]
    assert unit.endswith("\nLog: stretto logs 12 unit\n")
    assert "dist/shop.whl  123.5 kB  sha256:e3b0c4" in text.job(shop(), "compile", PIPE)
    assert "Log:" not in text.job(shop(), "ship", PIPE)


def test_job_that_waits_for_a_retry_says_until_when() -> None:
    """While a retry backs off, its earliest start is told."""
    index = next(i for i, event in enumerate(SHOP_STORY) if type(event).__name__ == "JobRetried")
    assert "next try  not before 2026-05-01 12:01:13 UTC" in text.job(shop(events=index + 1), "unit", PIPE)


def test_report_on_what_is_not_there_helps() -> None:
    """An unknown name is an error with the nearest one, or else the names there are, as hint."""
    with pytest.raises(NotFoundError, match="run 12 has no stage 'biuld'") as error:
        text.stage(shop(), "biuld", PIPE)
    assert error.value.hint == "did you mean 'build'?"
    with pytest.raises(NotFoundError, match="run 12 has no job 'xyz'") as error:
        text.job(shop(), "xyz", PIPE)
    assert error.value.hint == "it has: 'compile', 'docs', 'unit', 'lint', 'ship'"


def test_runs_lists_all_runs() -> None:
    """The table of runs shows number, status, commit and time; a run under way counts up to now."""
    over = row_of(told(SHOP, SHOP_STORY))
    under_way = row_of(told(SHOP, SHOP_STORY[:5]), number=13)
    lines = text.runs([under_way, over], PIPE, now=at(60.2)).splitlines()
    assert lines[0].split() == ["#", "Pipeline", "Status", "Reason", "Branch", "Commit", "Created", "Took", "Message"]
    assert " ".join(lines[1].split()) == "● 13 shop running main 1a2b3c4d5e 2026-05-01 12:00:00 UTC 1 m 00 s Sell more"
    assert lines[2].startswith("✗  12  shop      failed   job_failed  main")
    assert text.runs([], PIPE, now=at(0)) == "No runs.\n"


def test_pipeline_sums_its_runs_up() -> None:
    """The runs of one pipeline come with how many succeeded and how long they took."""
    failed = row_of(told(SHOP, SHOP_STORY))
    success = dataclasses.replace(failed, number=11, status=Status.SUCCESS, reason=None)
    lines = text.pipeline("shop", [failed, success], PIPE, now=at(300)).splitlines()
    assert lines[:3] == ["shop", "2 runs, 1 of 2 that are over succeeded, median 2 m 11 s", ""]
    assert len(lines) == 6


def test_log_command_can_be_pasted_into_a_shell() -> None:
    """A name with blanks, quotes or a leading dash is one word of the command, and no option."""
    report = shop()
    for name, word in (("a b", "'a b'"), ("$(rm -rf ~)", "'$(rm -rf ~)'"), ("-f", "-- -f")):
        first = dataclasses.replace(report.stages[0].jobs[0], name=name)
        stage = dataclasses.replace(report.stages[0], jobs=(first,))
        renamed = dataclasses.replace(report, stages=(stage,))
        assert text.job(renamed, name, PIPE).endswith(f"Log: stretto logs 12 {word}\n")


def test_times_are_those_of_the_readers_zone() -> None:
    """People read times in their own zone, named."""
    zone = timezone(timedelta(hours=2), "CEST")
    assert "2026-05-01 14:02:10 CEST" in text.run(shop(), Style(zone=zone))


def test_what_stopped_the_run_comes_before_allowed_failures() -> None:
    """A reader sees first what made the run fail."""
    failed = text.run(shop(), PIPE).partition("What failed")[2]
    assert failed.index("unit") < failed.index("docs")


def every_level(report: Report, style: Style) -> str:
    parts = [text.run(report, style)]
    for stage, job in report.jobs():
        parts += [text.stage(report, stage.name, style), text.job(report, job.name, style)]
    return "".join(parts)


@pytest.mark.parametrize("word", HOSTILE)
def test_text_in_a_pipe_holds_nothing_a_terminal_obeys(word: str) -> None:
    """Whatever comes from outside, only line feeds control the output, and it can be written as UTF-8."""
    told_text = every_level(worded(word), PIPE)
    controls = {char for char in told_text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert controls <= {"\n", "\u200c", "\u200d"}
    told_text.encode()


@unhurried
@given(reports())
def test_text_with_colours_says_the_same(report: Report) -> None:
    """Colours add only SGR sequences of our own."""
    painted = every_level(report, dataclasses.replace(PIPE, color=True))
    assert re.sub(r"\x1b\[\d+m|\x1b\[0m", "", painted) == every_level(report, PIPE)


@pytest.mark.parametrize("word", HOSTILE)
def test_text_falls_back_to_ascii(word: str) -> None:
    """A stream that is not UTF-8 gets ASCII only."""
    assert every_level(worded(word), dataclasses.replace(PIPE, unicode=False)).isascii()


def test_tables_stay_in_their_width() -> None:
    """No row of a table of hostile names is wider than the terminal."""
    row = row_of(told(SHOP, SHOP_STORY))
    rows = [dataclasses.replace(row, name=name, commit_message=name, branch=name) for name in HOSTILE]
    lines = text.runs(rows, Style(zone=UTC, columns=130), now=at(200)).splitlines()
    assert len(lines) == len(rows) + 1
    assert max(width(line) for line in lines) <= 130
