"""The keywords of `pipeline.yml`: which there are, what each may hold, what it means.

The tables here are the single source of the parser, of the JSON Schema that `stretto schema` prints, and of the tables in
docs/pipeline-yml.md (tests compare them). What several keywords mean together is checked in lint.py.
"""

from __future__ import annotations

from typing import Any, Final

from stretto.core.spec import MAX_RETRIES, When
from stretto.definitions.name import IMAGE, NAME, PATH, VARIABLES
from stretto.definitions.record import Keyword, ListOf, MapOf, Record, TextOrRecord
from stretto.definitions.shape import Check, Choice, Count, Duration, Flag, Text

DEFAULT_STAGES: Final = ("build", "test", "doc", "deploy")

_LINE: Final = Text(checks=(Check(r"\S", "empty-script", "is empty"),))
_LINES_WORDS: Final = "a string or a list of strings"
_SCRIPT: Final = ListOf(_LINE, "a script line", _LINES_WORDS, min_items=1, rule="empty-script", or_one=True)
_LINES: Final = ListOf(_LINE, "a script line", _LINES_WORDS, or_one=True)

NEED: Final = TextOrRecord(
    text=NAME,
    keyword="job",
    record=Record(
        "a need",
        (
            Keyword("job", NAME, "The job to wait for.", required=True),
            Keyword("optional", Flag(), "Pass over the need if there is no such job.", default=False),
            Keyword("artifacts", Flag(), "Lay the artifacts of that job under this one's tree.", default=True),
        ),
    ),
    words="the name of a job, or a map with 'job'",
)

ARTIFACTS: Final = Record(
    "artifacts",
    (
        Keyword(
            "paths",
            ListOf(PATH, "an artifact path", "a list of paths"),
            "Files and directories to keep, relative to the root of the tree; `*`, `?` and `**` match.",
            required=True,
        ),
    ),
)

_SHARED: Final = (
    Keyword("image", IMAGE, "The container image the job runs in; not used by the `process` driver."),
    Keyword("variables", VARIABLES, "Environment variables of the job, over those of the levels above."),
    Keyword("before_script", _LINES, "Lines run before `script`, in the same shell."),
    Keyword("after_script", _LINES, "Lines run after `script` in a shell of their own, whatever happened."),
    Keyword("working_directory", PATH, "Where the script starts, relative to the root of the tree.", default="."),
    Keyword("artifacts", ARTIFACTS, "What to keep of the files the job made."),
    Keyword("allow_failure", Flag(), "Whether the run goes on when the job fails.", default=False),
    Keyword("retry", Count(0, MAX_RETRIES), "How often a failed job is tried again.", default=0),
    Keyword("timeout", Duration(), "The time limit of each attempt at the job; none if not given."),
)
"""What a job may say, and `default` for all jobs."""

_FOREIGN_HINTS: Final = {
    "steps": "write the lines under 'script'",
    "run": "write the lines under 'script'",
    "env": "write 'variables'",
    "environment": "write 'variables'",
    "depends_on": "write 'needs'",
    "dependencies": "write 'needs'",
    "continue-on-error": "write 'allow_failure'",
    "timeout-minutes": "write 'timeout', like 15m",
    "runs-on": "write 'image'; the driver is chosen when the run starts",
    "container": "write 'image'",
    "workdir": "write 'working_directory'",
    "working-directory": "write 'working_directory'",
    **dict.fromkeys(
        ("cache", "concurrency", "extends", "include", "matrix", "parallel", "rules", "secrets", "services", "tags"),
        "not supported by this version",
    ),
}

JOB: Final = Record(
    "a job",
    (
        Keyword("stage", NAME, "The stage the job belongs to, one of `stages`.", required=True),
        Keyword("script", _SCRIPT, "The lines to run, in one shell that stops at the first failure.", required=True),
        Keyword(
            "needs",
            ListOf(NEED, "a need", "a list of job names", unique=True),
            "The jobs to wait for, instead of all earlier stages; `[]` waits for none.",
        ),
        Keyword(
            "when",
            Choice(tuple(when.value for when in When)),
            "Run if what the job waits for succeeded, always, or only if some of it failed.",
            default="on_success",
        ),
        *_SHARED,
    ),
    hints=_FOREIGN_HINTS,
)

DEFAULT: Final = Record(
    "default",
    _SHARED,
    hints={**_FOREIGN_HINTS, **dict.fromkeys(("stage", "script", "needs", "when"), "each job says this for itself")},
)

JOBS: Final = MapOf(
    key=NAME, key_name="job", value=JOB, words="a map of jobs", min_entries=1, rule="no-jobs", null_rule="null-job"
)

PIPELINE: Final = Record(
    "the pipeline",
    (
        Keyword("name", NAME, "The pipeline's name, shown in lists and reports and chosen with `-p`.", required=True),
        Keyword(
            "stages",
            ListOf(NAME, "a stage name", "a list of names", min_items=1, unique=True),
            "The stages, in their order.",
            default=list(DEFAULT_STAGES),
        ),
        Keyword("variables", VARIABLES, "Environment variables of all jobs."),
        Keyword("default", DEFAULT, "What holds for every job that does not say otherwise."),
        Keyword("fail_fast", Flag(), "Whether a failure also stops the jobs that are running.", default=False),
        Keyword("timeout", Duration(), "The time limit of the whole run; none if not given."),
        Keyword("jobs", JOBS, "The jobs, by name.", required=True),
    ),
    hints={**_FOREIGN_HINTS, "image": "write it under 'default'", "script": "write it in a job, under 'jobs'"},
    open_prefix=".",
)


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of `pipeline.yml`, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Stretto pipeline",
        "description": "A pipeline.yml of Stretto: stages of jobs, and what each job runs.",
        **PIPELINE.schema(),
    }
