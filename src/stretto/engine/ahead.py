"""What comes next: the tree a job starts with, and the jobs worth making ready before they are allowed to start.

Pure, apart from asking the artifact store for a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from itertools import islice
from pathlib import Path

from stretto.core.ports import ArtifactStore
from stretto.core.run import JobRun, Run
from stretto.core.spec import When
from stretto.core.states import FINAL, Status

LOOK_AT_MOST = 64
"""How many jobs that have not started are looked at in one go, so that a wide graph costs no more than a narrow one."""


def givers(run: Run, job: JobRun) -> list[JobRun]:
    """Return the jobs whose artifacts `job` gets: the needs that say so, or without needs all jobs of earlier stages."""
    if job.spec.needs is None:
        stage = run.graph.stage_of[job.index]
        return [run.jobs[i] for i in run.graph.leavers if run.graph.stage_of[i] < stage]
    return [giver for need in job.spec.needs if need.artifacts and (giver := run.job(need.job)).spec.artifacts]


async def layers(run: Run, job: JobRun, artifacts: ArtifactStore) -> list[Path]:
    """Return the artifact layers under `job`'s tree; those of a later job of the spec hide those of an earlier one."""
    found = [giver for giver in givers(run, job) if giver.status is Status.SUCCESS and giver.artifacts]
    found.sort(key=lambda giver: giver.index, reverse=True)
    return [await artifacts.layer(run.artifacts_key(giver), giver.artifacts) for giver in found]


def next_jobs(run: Run, room: int, prepares: Callable[[JobRun], bool], prepared: Container[str]) -> list[JobRun]:
    """Return up to `room` jobs that will start next if all goes well, and that can be made ready now.

    Those are jobs that wait for a slot, or only for jobs that run or are being made ready themselves. A job that gets
    artifacts of jobs not yet over is left out: its tree isn't known.
    """
    if room <= 0 or run.stopping:
        return []
    chosen: list[JobRun] = []
    near = set(run.running) | {i for i in islice(run.unstarted, LOOK_AT_MOST) if run.jobs[i].spec.name in prepared}
    stage_is_near: dict[int, bool] = {}
    for i in islice(run.unstarted, LOOK_AT_MOST):
        job = run.jobs[i]
        if len(chosen) >= room:
            break
        if i in near or job.attempts or job.cancel_requested or job.spec.when is not When.ON_SUCCESS:
            continue
        if i not in run.queued[job.spec.driver] and not _is_near(run, job, near, stage_is_near):
            continue
        if any(giver.status not in FINAL for giver in givers(run, job)) or not prepares(job):
            continue
        chosen.append(job)
        near.add(i)
        stage_is_near.clear()
    return chosen


def _is_near(run: Run, job: JobRun, near: set[int], stage_is_near: dict[int, bool]) -> bool:
    """Say whether all that `job` waits for succeeded, runs, or will start soon."""
    needs, stage = run.graph.needs[job.index], run.graph.stage_of[job.index]
    if needs is not None:
        return all(i in near or run.jobs[i].status is Status.SUCCESS for i in needs)
    if stage not in stage_is_near:
        earlier = (i for members in run.graph.members[:stage] for i in members)
        stage_is_near[stage] = all(i in near or run.jobs[i].status in FINAL for i in earlier)
    return stage_is_near[stage]
