"""What several keywords of a pipeline must mean together: stages and jobs that are named exist, once, and in a possible order.

It looks at what could be read of a file that may have other faults, so a name is unknown only if the file has it nowhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from stretto.core.graph import find_cycle
from stretto.definitions.fault import Faults
from stretto.definitions.node import Node, quote
from stretto.definitions.pipeline import DEFAULT_STAGES
from stretto.definitions.record import Entries

MAX_CYCLES = 20
"""Enough to see what is wrong; a dense graph has more cycles than a person has days."""


def lint(root: Node, pipeline: Entries, faults: Faults) -> None:
    """Note every fault between keywords. `pipeline` is what could be read of `root`."""
    stages = _stages(root, pipeline, faults)
    job_names = root.entries["jobs"][1].entries if "jobs" in root.entries else {}
    jobs: Entries = pipeline["jobs"].value if "jobs" in pipeline else {}
    edges = {}
    for name, job in jobs.items():
        if stages and "stage" in job.value:
            _check_stage(job.value, stages, faults)
        edges[name] = _check_needs(name, jobs, job_names, stages, faults)
    _check_cycles(edges, faults)


def _stages(root: Node, pipeline: Entries, faults: Faults) -> dict[str, int]:
    """Return the stages with their positions; none where they could not be read."""
    if "stages" not in root.entries:
        return {name: i for i, name in enumerate(DEFAULT_STAGES)}
    stages: dict[str, int] = {}
    for item in pipeline["stages"].value if "stages" in pipeline else ():
        if item.value in stages:
            faults.add(item.node, "duplicate-stage", f"the stage {quote(item.value)} is there a second time")
        stages.setdefault(item.value, len(stages))
    return stages


def _check_stage(job: Entries, stages: Mapping[str, int], faults: Faults) -> None:
    stage = job["stage"]
    if stage.value not in stages:
        hint = faults.nearest(stage.value, stages) or f"the stages are {', '.join(list(stages)[:8])}"
        faults.add(stage.node, "unknown-stage", f"there is no stage {quote(stage.value)}", hint)


def _check_needs(
    name: str, jobs: Entries, job_names: Collection[str], stages: Mapping[str, int], faults: Faults
) -> dict[str, Node]:
    """Check what a job needs; return the jobs it may wait for, each with the node that says so."""
    job: Entries = jobs[name].value
    wanted: dict[str, Node] = {}
    seen: set[str] = set()
    for item in job["needs"].value if "needs" in job else ():
        if "job" not in item.value:
            continue
        need, node = item.value["job"].value, item.value["job"].node
        if need in seen:
            faults.add(node, "duplicate-need", f"the job {quote(need)} is needed twice")
        elif need == name:
            faults.add(node, "self-need", f"the job {quote(name)} needs itself")
        elif need not in job_names:
            if not ("optional" in item.value and item.value["optional"].value):
                hint = faults.nearest(need, job_names)
                faults.add(node, "unknown-need", f"there is no job {quote(need)}", hint)
        elif need in jobs:
            wanted[need] = node
            _check_order(job, need, jobs[need].value, node, stages, faults)
        seen.add(need)
    return wanted


def _check_order(
    job: Entries, need: str, needed: Entries, node: Node, stages: Mapping[str, int], faults: Faults
) -> None:
    own, other = (entries["stage"].value if "stage" in entries else "" for entries in (job, needed))
    if own in stages and other in stages and stages[own] < stages[other]:
        message = f"the job {quote(need)} is in stage {quote(other)}, which comes after {quote(own)}"
        faults.add(node, "later-need", message, "a job can need jobs of its own and of earlier stages")


def _check_cycles(edges: Mapping[str, dict[str, Node]], faults: Faults) -> None:
    """Note each cycle once, at the need that closes it; what closes it is then left out to find the next."""
    graph: dict[str, list[str]] = {name: list(needs) for name, needs in edges.items()}
    for _ in range(MAX_CYCLES):
        cycle = find_cycle(graph)
        if cycle is None:
            return
        last, first = cycle[-2], cycle[-1]
        names = [quote(name) for name in cycle]
        path = " -> ".join(names if len(names) <= 12 else [*names[:10], "…", *names[-1:]])
        faults.add(edges[last][first], "need-cycle", f"the needs form a cycle: {path}", "remove one of these needs")
        graph[last].remove(first)
