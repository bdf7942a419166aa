"""`stretto plan`: what would run, and nothing done."""

from __future__ import annotations

import json
from collections.abc import Callable

from stretto.core.spec import JobSpec, Need, RunSpec, When
from stretto.doors.cli.plan import conditions, plan_lines
from stretto.reports.terminal import Style
from tests.support.repository import git
from tests.unit.doors.cli.conftest import Place, Said


def test_plan_tells_levels_and_why_jobs_may_not_run(stretto: Callable[..., Said], made: Place) -> None:
    """The plan names commit and message (harmless), what each job waits for, and which may be left out."""
    said = stretto("plan")
    assert (said.code, said.err) == (0, "")
    lines = [" ".join(line.split()) for line in said.text.splitlines()]
    head = git(made.repository, "rev-parse", "HEAD")[:10]
    assert lines[0] == "small: 4 jobs in 3 stages, at most 2 at once"
    assert f"commit {head} Add \\x1b[31mred\\x1b[0m and \\u202eturned (branch main)" in lines
    start = lines.index("Level Job Stage Starts Image")
    assert lines[start + 1 :] == [
        "1 compile build at once (process)",
        "2 lint test when stage build succeeded (may fail) (process)",
        "3 publish report when lint succeeded (process)",
        "alarm report when stages build, test are over and one failed (up to 3 attempts, time limit 5 m 00 s) (process)",
        "",
        "What may not run",
        "publish: runs only if lint succeeds",
        "alarm: runs only if a job that it waits for fails",
    ]


def test_plan_json_has_jobs_and_levels(stretto: Callable[..., Said], made: Place) -> None:
    """With --json stdout has one array with an object per pipeline, values of --set in it."""
    said = stretto("plan", "--json", "--set", "jobs.lint.retry=3")
    (plan,) = json.loads(said.out)
    assert (said.code, said.err) == (0, "")
    assert plan["levels"] == [["compile"], ["lint"], ["publish", "alarm"]]
    jobs = {job["name"]: job for job in plan["jobs"]}
    assert {name for name, job in jobs.items() if job["may_not_run"]} == {"publish", "alarm"}
    assert jobs["alarm"]["waits_for"] == ["compile", "lint"]
    assert jobs["lint"]["max_retries"] == 3
    assert plan["commit"] == git(made.repository, "rev-parse", "HEAD")


def test_plan_stores_no_run(stretto: Callable[..., Said]) -> None:
    """A plan leaves the list of runs as it was."""
    before = stretto("runs", "--json").out
    assert stretto("plan").code == 0
    assert stretto("runs", "--json").out == before


def test_plan_shows_the_image_where_jobs_run_in_containers(stretto: Callable[..., Said]) -> None:
    """With a container driver each job tells its image."""
    said = stretto("plan", "-f", "solo.yml", "--driver", "docker", "--set", "jobs.only.image=python:3.12")
    assert said.text.splitlines()[-1].split() == ["1", "only", "test", "at", "once", "python:3.12"]


def test_plan_of_what_is_not_there_is_an_input_error(stretto: Callable[..., Said]) -> None:
    """A wrong branch, file, key or variable ends with 2, and stdout stays empty."""
    for arguments in (["-b", "none"], ["-f", "none.yml"], ["--set", "jobs.none.retry=1"], ["--var", "9=1"]):
        said = stretto("plan", *arguments)
        assert (said.code, said.out) == (2, b""), arguments
        assert "stretto: error:" in said.err, arguments


def test_conditions_go_on_along_needs() -> None:
    """A job that needs one that may not run may not run either; `always` and stages do not pass it on."""
    spec = RunSpec(
        kind="pipeline",
        name="p",
        stages=("s", "t"),
        jobs=(
            JobSpec("flaky", "s", "process", allow_failure=True),
            JobSpec("after", "s", "process", needs=(Need("flaky"),)),
            JobSpec("further", "s", "process", needs=(Need("after"), Need("flaky"))),
            JobSpec("anyway", "s", "process", needs=(Need("after"),), when=When.ALWAYS),
            JobSpec("later", "t", "process"),
        ),
    )
    assert conditions(spec) == {
        "after": "runs only if flaky succeeds",
        "further": "runs only if after, flaky succeed",
    }


def test_plan_lines_neutralise_names() -> None:
    """Names of jobs, stages and pipelines can't move the cursor."""
    job = JobSpec("j\x1b[2J", "s\x9b2J", "process", needs=())
    spec = RunSpec(kind="pipeline", name="p\u202e", stages=("s\x9b2J",), jobs=(job,))
    assert not set("\x1b\x9b\u202e") & set("".join(plan_lines(spec, Style())))
