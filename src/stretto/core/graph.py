"""The order of a spec's jobs: who waits for whom, what may start first, what is on the longest way, what can never start.

A job with `needs` waits for those jobs. A job without waits for its stage's turn, which comes when every job of every earlier
stage is over. That second kind of waiting is kept as a count per stage, not as edges, so that a graph of n jobs stays of size n.
"""

from __future__ import annotations

from collections.abc import Mapping

from stretto.core.errors import StrettoError
from stretto.core.frozen import frozen
from stretto.core.spec import JobSpec, RunSpec


@frozen
class Graph:
    """A spec's jobs by index, in the order of the spec.

    `needs[i]` are the jobs that i names, or None where i waits for its stage's turn; `dependents[i]` those that name i;
    `stage_of[i]` is the index of i's stage, `members[s]` are the jobs of stage s; `leavers` those that leave artifacts.
    """

    index: Mapping[str, int]
    needs: tuple[tuple[int, ...] | None, ...]
    dependents: tuple[tuple[int, ...], ...]
    stage_of: tuple[int, ...]
    members: tuple[tuple[int, ...], ...]
    leavers: tuple[int, ...]


def build(spec: RunSpec) -> Graph:
    """Return the graph of `spec`; its names must be known and its needs free of cycles (definitions check that before)."""
    index = {job.name: i for i, job in enumerate(spec.jobs)}
    if len(index) != len(spec.jobs):
        raise StrettoError("two jobs of a spec have the same name")
    stages = {name: i for i, name in enumerate(spec.stages)}
    try:
        stage_of = tuple(stages[job.stage] for job in spec.jobs)
        needs = tuple(
            None if job.needs is None else tuple(dict.fromkeys(index[need.job] for need in job.needs))
            for job in spec.jobs
        )
    except KeyError as error:
        raise StrettoError(f"a job of the spec names {error.args[0]!r}, which is no stage or job of it") from None
    dependents: list[list[int]] = [[] for _ in spec.jobs]
    members: list[list[int]] = [[] for _ in spec.stages]
    for i, wanted in enumerate(needs):
        members[stage_of[i]].append(i)
        for j in wanted or ():
            if stage_of[j] > stage_of[i]:
                raise StrettoError(f"job {spec.jobs[i].name!r} needs {spec.jobs[j].name!r} of a later stage")
            dependents[j].append(i)
    leavers = tuple(i for i, job in enumerate(spec.jobs) if job.artifacts)
    graph = Graph(index, needs, tuple(map(tuple, dependents)), stage_of, tuple(map(tuple, members)), leavers)
    if cycle := find_cycle({job.name: [need.job for need in job.needs or ()] for job in spec.jobs}):
        raise StrettoError(f"the needs form a cycle: {' -> '.join(cycle)}")
    return graph


def find_cycle(needs: Mapping[str, list[str]]) -> list[str] | None:
    """Return one cycle of `needs` (job -> jobs it names), its first name repeated at the end, or None.

    Names that are no key are passed over. Iterative: a chain of 10,000 jobs is no deeper than one of ten.
    """
    done: set[str] = set()
    for root in needs:
        if root in done:
            continue
        path, on_path, stack = [root], {root}, [iter(needs[root])]
        while stack:
            name = next(stack[-1], None)
            if name is None:
                stack.pop()
                last = path.pop()
                on_path.discard(last)
                done.add(last)
            elif name in on_path:
                return [*path[path.index(name) :], name]
            elif name in needs and name not in done:
                path.append(name)
                on_path.add(name)
                stack.append(iter(needs[name]))
    return None


def levels(spec: RunSpec) -> list[list[JobSpec]]:
    """Return the jobs in levels: those of level n may start when all that they wait for on lower levels is over."""
    graph = build(spec)
    level = [-1] * len(spec.jobs)
    floor = 0  # the level on which the jobs of a stage that wait for its turn stand
    for members in graph.members:
        left = list(members)
        while left:
            rest = []
            for i in left:
                wanted = graph.needs[i]
                if wanted is None:
                    level[i] = floor
                elif all(level[j] >= 0 for j in wanted):
                    level[i] = max((level[j] + 1 for j in wanted), default=0)
                else:
                    rest.append(i)
            left = rest
        floor = max([floor, *(level[i] + 1 for i in members)])
    out: list[list[JobSpec]] = [[] for _ in range(max(level, default=-1) + 1)]
    for i, job in enumerate(spec.jobs):
        out[level[i]].append(job)
    return out


def critical_path(spec: RunSpec, duration_s: Mapping[str, float]) -> list[str]:
    """Return the names of the jobs on the longest way through the graph, first to last; a job without duration counts 0."""
    if not spec.jobs:
        return []
    graph = build(spec)
    ends = [0.0] * len(spec.jobs)
    before: list[int | None] = [None] * len(spec.jobs)
    last_of_stage: list[int | None] = [None] * len(spec.stages)
    for job in (job for level in levels(spec) for job in level):
        i = graph.index[job.name]
        stage, needs = graph.stage_of[i], graph.needs[i]
        waited = last_of_stage[:stage] if needs is None else needs
        before[i] = max((j for j in waited if j is not None), key=lambda j: ends[j], default=None)
        ends[i] = (0.0 if before[i] is None else ends[before[i] or 0]) + duration_s.get(job.name, 0.0)
        last = last_of_stage[stage]
        if last is None or ends[i] > ends[last]:
            last_of_stage[stage] = i
    at: int | None = max(range(len(spec.jobs)), key=lambda i: ends[i])
    path: list[str] = []
    while at is not None:
        path.append(spec.jobs[at].name)
        at = before[at]
    return path[::-1]
