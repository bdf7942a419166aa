"""What a run that does another one again need not do again. Pure."""

from __future__ import annotations

from datetime import datetime

from stretto.core.events import JobKept
from stretto.core.run import Run
from stretto.core.spec import When
from stretto.core.states import Status


def keep(old: Run, number: int, at: datetime) -> tuple[JobKept, ...]:
    """Return, for a new run of the same spec, the jobs of `old` (whose number is given) that are kept.

    Those are the jobs that succeeded; but one that looked at results that will be new runs again: what is `always` or
    `on_failure` after a job that runs again, and what comes after such a one.
    """
    succeeded = {job.index for job in old.jobs if job.status is Status.SUCCESS}
    kept = _without_those_after(old, succeeded)
    return tuple(
        JobKept(
            at,
            job.spec.name,
            old.artifacts_key(job).text,
            number if job.kept is None else job.kept.run,
            job.artifacts,
        )
        for job in old.jobs
        if job.index in kept
    )


def _without_those_after(old: Run, succeeded: set[int]) -> set[int]:
    graph, kept = old.graph, set(succeeded)
    while True:
        again = {graph.stage_of[job.index] for job in old.jobs if job.index not in kept}
        succeeded_again = {graph.stage_of[i] for i in succeeded - kept}
        dropped = set()
        for i in kept:
            needs = graph.needs[i]
            if needs is not None:
                runs_again = any(needed not in kept for needed in needs)
            else:  # it may have run after a failure that was allowed; that this one is tried again changes nothing
                stages = succeeded_again if old.jobs[i].spec.when is When.ON_SUCCESS else again
                runs_again = any(stage < graph.stage_of[i] for stage in stages)
            if runs_again:
                dropped.add(i)
        if not dropped:
            return kept
        kept -= dropped
