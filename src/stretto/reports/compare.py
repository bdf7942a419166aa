"""Whether two runs came to the same result: what an undisturbed run and one that was killed and resumed must have in common.

Left out: times and durations, ids and numbers of runs, what follows from times (the critical path), sentences for people (they
may name any of these; the reason says the same to machines), and attempts that a crash cut off (`lost`, and followed by another).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from stretto.core.states import Reason
from stretto.reports.model import JobReport, Report

_RUN_FIELDS = (
    "kind",
    "name",
    "status",
    "reason",
    "repository",
    "branch",
    "tag",
    "commit",
    "commit_message",
    "definition",
)
_JOB_FIELDS = (
    "status",
    "reason",
    "exit_code",
    "needs",
    "when",
    "allow_failure",
    "max_attempts",
    "driver",
    "image",
)


def same_result(a: Report, b: Report) -> list[str]:
    """Return the differences between the results of two runs, one sentence each; an empty list means none."""
    found = _differences("run", _pick(a.run, _RUN_FIELDS), _pick(b.run, _RUN_FIELDS))
    found += _differences("run", {"stages": _stages(a)}, {"stages": _stages(b)})
    jobs_a, jobs_b = _jobs(a), _jobs(b)
    found += [f"job {name!r}: only in the first run" for name in jobs_a if name not in jobs_b]
    found += [f"job {name!r}: only in the second run" for name in jobs_b if name not in jobs_a]
    for name, job in jobs_a.items():
        if name in jobs_b:
            found += _differences(f"job {name!r}", job, jobs_b[name])
    return found


def _stages(report: Report) -> list[tuple[str, str]]:
    return [(stage.name, stage.status.value) for stage in report.stages]


def _jobs(report: Report) -> dict[str, dict[str, Any]]:
    return {job.name: {"stage": stage.name, **_job(job)} for stage, job in report.jobs()}


def _job(job: JobReport) -> dict[str, Any]:
    return {
        **_pick(job, _JOB_FIELDS),
        "attempts": [
            (attempt.status.value, _word(attempt.reason), attempt.exit_code)
            for attempt in job.attempts
            if attempt.reason != Reason.LOST or attempt is job.attempts[-1]
        ],
        "artifacts": sorted(job.artifacts, key=lambda artifact: artifact.path),
    }


def _pick(value: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: _word(getattr(value, name)) for name in names}


def _word(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _differences(what: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [
        f"{what}: {name} is {a[name]!r} in the first, {b[name]!r} in the second" for name in a if a[name] != b[name]
    ]
