"""Order, levels, cycles and the critical path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.core.errors import StrettoError
from stretto.core.graph import build, critical_path, find_cycle, levels
from stretto.core.spec import from_json, to_json
from tests.unit.core.play import job, spec


def names(*jobs: object) -> list[list[str]]:
    """Return the names level by level."""
    return [[one.name for one in level] for level in levels(spec(*jobs))]  # type: ignore[arg-type]


def test_levels_follow_needs_and_stages() -> None:
    """A job with needs stands right above them, one without above all earlier stages."""
    assert names(job("a1"), job("a2", needs=["a1"]), job("b1", "b", ["a1"]), job("b2", "b"), job("c1", "c", [])) == [
        ["a1", "c1"],
        ["a2", "b1"],
        ["b2"],
    ]


def test_empty_stage_is_passed_over() -> None:
    """A stage without jobs holds nobody up."""
    assert names(job("a1"), job("c1", "c")) == [["a1"], ["c1"]]


def test_critical_path_takes_the_longest_way() -> None:
    """Durations decide, through needs and through stages."""
    graph = spec(job("short"), job("long"), job("b1", "b"), job("b2", "b", ["short"]))
    assert critical_path(graph, {"short": 1, "long": 5, "b1": 1, "b2": 2}) == ["long", "b1"]
    assert critical_path(graph, {"short": 1, "long": 5, "b1": 1, "b2": 9}) == ["short", "b2"]
    assert critical_path(spec(), {}) == []


@pytest.mark.parametrize(
    ("needs", "cycle"),
    [
        ({"a": ["b"], "b": ["a"]}, ["a", "b", "a"]),
        ({"a": ["a"]}, ["a", "a"]),
        ({"x": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}, ["a", "b", "c", "a"]),
        ({"a": ["b"], "b": []}, None),
        ({"a": ["unknown"]}, None),
    ],
)
def test_find_cycle_names_the_way_round(needs: dict[str, list[str]], cycle: list[str] | None) -> None:
    """The cycle is given from a job back to itself; names that are no job don't matter."""
    assert find_cycle(needs) == cycle


def test_find_cycle_is_not_bounded_by_the_stack() -> None:
    """A chain of 50,000 jobs is looked through, and closed into a ring is found."""
    chain = {str(i): [str(i + 1)] for i in range(50_000)}
    assert find_cycle(chain) is None
    ring = find_cycle({**chain, "50000": ["0"]})
    assert ring is not None
    assert len(ring) == 50_002


def test_build_refuses_a_need_of_a_later_stage() -> None:
    """A job can't wait for what comes after its own stage."""
    with pytest.raises(StrettoError, match="later stage"):
        build(spec(job("a1", "a", ["b1"]), job("b1", "b")))


@given(st.data())
def test_levels_put_every_job_above_what_it_waits_for(data: st.DataObject) -> None:
    """For any graph, every need stands lower, and specs survive JSON."""
    jobs = []
    for i in range(data.draw(st.integers(0, 12))):
        stage = data.draw(st.sampled_from("abc"))
        earlier = [one.name for one in jobs if one.stage <= stage]
        needs = data.draw(st.none() | st.lists(st.sampled_from(earlier), unique=True)) if earlier else None
        jobs.append(job(f"j{i}", stage, needs))
    graph = spec(*jobs)
    level_of = {one.name: n for n, level in enumerate(levels(graph)) for one in level}
    assert len(level_of) == len(jobs)
    for one in jobs:
        waits = (
            [need.job for need in one.needs] if one.needs is not None else [o.name for o in jobs if o.stage < one.stage]
        )
        assert all(level_of[other] < level_of[one.name] for other in waits)
    assert from_json(to_json(graph)) == graph
