"""Random pipelines whose process dies between any two calls to the repository: what must hold always, and how all ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stretto.process import OnContinueMixin, OnStartMixin, Orchestrator, OrchestratorConfig, Pipeline, Status, Step
from stretto.process.metadata import MARKS, STARTING
from stretto.process.pipeline import register_pipeline
from stretto.process.status import FINAL
from stretto.process.step import register_step
from tests.support.process import Plain, own_registry

ACTIONS = ("nothing", "finish", "fail", "cancel", "raise")
ENDS = {"finish": Status.FINISHED, "fail": Status.FAILED, "cancel": Status.CANCELLED, "raise": Status.FAILED}


class Died(BaseException):
    """The process was killed."""


@dataclass(frozen=True)
class Conduct:
    """What a step does: in `on_start` (None: it has none), and in each turn of `on_continue` (None: it has none).

    When the turns are used up it finishes.
    """

    start: str | None
    turns: tuple[str, ...] | None

    @property
    def actions(self) -> list[str]:
        """All actions in order, the last of which ends the step, if any does."""
        turns = () if self.turns is None else (*self.turns, "finish")
        return [self.start or "nothing", *turns]

    @property
    def end(self) -> str:
        """The status it ends with when nothing disturbs it; pending if nothing ends it."""
        return next((ENDS[action] for action in self.actions if action in ENDS), Status.PENDING)


conducts = st.builds(
    Conduct,
    start=st.none() | st.sampled_from(ACTIONS),
    turns=st.none() | st.lists(st.sampled_from(ACTIONS), max_size=3).map(tuple),
)
all_pipelines = st.lists(st.lists(conducts, min_size=1, max_size=4).map(tuple), min_size=1, max_size=3)
death = st.tuples(st.integers(0, 30), st.booleans())
"""At which call a process dies, and whether the call has taken effect."""


class World:
    """A database, the processes that die over it, and what is never allowed to happen."""

    def __init__(self, pipelines: list[tuple[Conduct, ...]], *, whole: bool) -> None:
        self.database = Plain(whole=whole)
        self.database.before, self.database.after = self._before, self._after
        self.classes = [self._pipeline_class(f"P{number}", steps) for number, steps in enumerate(pipelines)]
        self._calls_left: int | None = None
        self._dies_after = False
        self._dead = False
        self._started: set[str] = set()
        self._final: dict[str, str] = {}
        self._touched: dict[str, str] = {}
        self.broken: list[str] = []

    @contextmanager
    def process(self, death: tuple[int, bool] | None) -> Iterator[None]:
        """Run the block in a process that dies at a call, or lives."""
        self._calls_left, self._dies_after = death or (None, False)
        self._dead = False
        self._touched.clear()
        try:
            yield
        except Died:
            pass
        finally:
            self._look()
            self._dead, self._calls_left = False, None
            self.database.forget_claims()

    def run_pass(self, death: tuple[int, bool] | None) -> None:
        """One process: starts what is only created, then runs one pass of an orchestrator."""
        with self.process(death):
            for record in self.database.records("PIPELINE"):
                if record["status"] == Status.CREATED:
                    number = int(record["name"][1:])
                    self.classes[number](self.database, pipeline_uuid=record["uuid"]).start()
            self._touched.clear()
            Orchestrator(OrchestratorConfig(self.database)).execute_pipelines()

    def steps_of(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the records of a pipeline's steps."""
        return [step for step in self.database.records("STEP") if step["pipeline_uuid"] == record["uuid"]]

    def _before(self, model: str, method: str, arguments: dict[str, Any]) -> None:
        if self._dead or (self._calls_left == 0 and not self._dies_after):
            self._dead = True
            raise Died

    def _after(self, model: str, method: str, arguments: dict[str, Any]) -> None:
        self._look()
        if self._calls_left is not None:
            if self._calls_left == 0:
                self._dead = True
                raise Died
            self._calls_left -= 1

    def _look(self) -> None:
        """Take note of what is on record for good: nothing of a transaction that goes on. A final status stays."""
        if self.database.in_transaction:
            return
        for record in self.database.records("PIPELINE") + self.database.records("STEP"):
            uuid, status = record["uuid"], record["status"]
            self.hold("final is final", self._final.get(uuid, status) == status)
            if status in FINAL:
                self._final[uuid] = status
            if status == Status.PENDING and STARTING not in record["metadata"].get(MARKS, {}):
                self._started.add(uuid)

    def _enter(self, step: Step, hook: str) -> None:
        """A hook is called: its step is the first that isn't over, the only one of its pipeline, and not started before."""
        self._look()
        pipeline = next(r for r in self.database.records("PIPELINE") if r["uuid"] == step.pipeline_uuid)
        mine = self.steps_of(pipeline)
        position = [record["uuid"] for record in mine].index(step.uuid)
        self.hold("steps before are over", all(r["status"] == Status.FINISHED for r in mine[:position]))
        self.hold("steps after are not begun", all(r["status"] == Status.CREATED for r in mine[position + 1 :]))
        self.hold("one step per pass", self._touched.setdefault(step.pipeline_uuid, step.uuid) == step.uuid)
        self.hold("started once", (hook == "on_start") == (step.uuid not in self._started))
        self.hold("pipeline and step are pending", pipeline["status"] == mine[position]["status"] == Status.PENDING)

    def hold(self, rule: str, holds: bool) -> None:
        """Take note of a broken rule: an exception here could be taken for the step's own."""
        if not holds:
            self.broken.append(rule)

    def _pipeline_class(self, name: str, conducts: tuple[Conduct, ...]) -> type[Pipeline]:
        steps = [self._step_class(f"{name}S{number}", conduct) for number, conduct in enumerate(conducts)]
        return register_pipeline(type(name, (Pipeline,), {"name": name, "steps": steps}))

    def _step_class(self, name: str, conduct: Conduct) -> type[Step]:
        world = self

        def on_start(self: Step) -> None:
            world._enter(self, "on_start")
            act(self, conduct.actions[0])

        def on_continue(self: Step) -> None:
            world._enter(self, "on_continue")
            self.metadata["turn"] = self.metadata.get("turn", 0) + 1
            act(self, conduct.actions[self.metadata["turn"]])

        bases = (
            *((OnStartMixin,) if conduct.start is not None else ()),
            *((OnContinueMixin,) if conduct.turns is not None else ()),
            Step,
        )
        return register_step(type(name, bases, {"name": name, "on_start": on_start, "on_continue": on_continue}))


def act(step: Step, action: str) -> None:
    """Do it."""
    if action == "raise":
        raise ValueError("on purpose")
    if action != "nothing":
        getattr(step, action)()


def expected(conducts: tuple[Conduct, ...]) -> tuple[str, list[str]]:
    """Return how a pipeline ends that nothing disturbs, and how its steps do."""
    steps: list[str] = []
    for conduct in conducts:
        steps.append(conduct.end)
        if conduct.end != Status.FINISHED:
            return conduct.end, steps + [Status.CREATED] * (len(conducts) - len(steps))
    return Status.FINISHED, steps


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pipelines=all_pipelines,
    creation=st.none() | death,
    deaths=st.lists(death, max_size=6),
    whole=st.booleans(),
)
def test_history_ends_as_if_nobody_had_died(
    pipelines: list[tuple[Conduct, ...]],
    creation: tuple[int, bool] | None,
    deaths: list[tuple[int, bool]],
    whole: bool,
) -> None:
    """Whenever processes die: no step is started twice, order and final statuses hold, and every pipeline ends as it should."""
    with own_registry():
        world = World(pipelines, whole=whole)
        with world.process(creation):
            for pipeline_class in world.classes:
                pipeline_class(world.database)
        if whole:  # all or nothing
            for record in world.database.records("PIPELINE"):
                assert len(world.steps_of(record)) == len(pipelines[int(record["name"][1:])])
        for death in deaths:
            world.run_pass(death)
        for _ in range(sum(len(conduct.actions) for steps in pipelines for conduct in steps) + 1):
            world.run_pass(None)
        assert world.broken == []
        for record in world.database.records("PIPELINE"):
            found = record["status"], [step["status"] for step in world.steps_of(record)]
            assert found == expected(pipelines[int(record["name"][1:])])
        if creation is None:
            assert len(world.database.records("PIPELINE")) == len(pipelines)
