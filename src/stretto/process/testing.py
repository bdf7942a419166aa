"""A conformance suite for repositories, to be run by pytest over one of your own.

    from stretto.process.testing import RepositoryConformance

    class TestMyRepository(RepositoryConformance):
        @pytest.fixture
        def repository_class(self, tmp_path):
            return ...  # a repository class over an empty database

Tests of optional methods pass where the class has none. The suite needs no more of pytest than that it calls the methods.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from stretto.process.data import Metadata
from stretto.process.mixin import OnContinueMixin, OnStartMixin
from stretto.process.orchestrator import Orchestrator, OrchestratorConfig
from stretto.process.pipeline import PIPELINES, Pipeline
from stretto.process.provider import PipelineProvider, StepProvider
from stretto.process.repository import Claiming, Repository, RepositoryClass, Transactional
from stretto.process.status import Status
from stretto.process.step import STEPS, Step

PIPELINE, STEP = Metadata.PIPELINES_MODEL, Metadata.STEP_MODEL

METADATA: dict[str, Any] = {
    "text": 'naïve "double" it\'s \\ 100 % _ \N{SNOWMAN} \N{GRINNING FACE}',
    "long": "x" * 100_000,
    "empty": "",
    "numbers": [0, -1, 2**53, 1.5],
    "truths": [True, False, None],
    "nested": {"list": [{"deep": []}], "dict": {}},
}
"""What any JSON-able metadata may hold."""

LEASE_S = 60.0
SHORT_LEASE_S = 0.05
PATIENCE_S = 10.0
"""How long a short claim may take to run out."""
THREADS = 8


def pipeline_record(**changes: Any) -> dict[str, Any]:
    """Return a record of a pipeline with a new uuid."""
    return {"uuid": str(uuid4()), "name": "P", "metadata": {"current_step": None}, "status": Status.CREATED, **changes}


def step_record(**changes: Any) -> dict[str, Any]:
    """Return a record of a step with a new uuid, of a new pipeline."""
    uuids = {"uuid": str(uuid4()), "pipeline_uuid": str(uuid4())}
    return {**uuids, "name": "S", "metadata": {}, "status": Status.CREATED, **changes}


def assert_holds(found: Mapping[str, Any] | None, record: Mapping[str, Any]) -> None:
    """Assert that what was found has all the record's fields."""
    assert found is not None, f"record {record['uuid']} is not found"
    assert {name: found.get(name) for name in record} == record


def search_uuids(repository: Repository, field: str, value: str) -> list[str]:
    """Return the uuids of what the repository finds, in its order."""
    return [item["uuid"] for item in repository.search(filter=[field, value])]


class CountingStep(OnStartMixin, OnContinueMixin, Step):
    """Counts in its metadata how often it was continued, and finishes at the second time."""

    name = "stretto.process.testing.CountingStep"

    def on_start(self) -> None:
        """Begin to count."""
        self.metadata["count"] = 0

    def on_continue(self) -> None:
        """Count."""
        self.metadata["count"] += 1
        if self.metadata["count"] == 2:
            self.finish()


class CountingPipeline(Pipeline):
    """Counts twice."""

    name = "stretto.process.testing.CountingPipeline"
    steps = (CountingStep, CountingStep)


class RepositoryConformance:
    """The suite: a subclass has a fixture `repository_class`, over an empty database."""

    def test_records_come_back_as_saved(self, repository_class: RepositoryClass) -> None:
        """A record of either model is found by its uuid with all fields, metadata of every JSON type included."""
        pipeline, step = pipeline_record(metadata=METADATA), step_record(metadata=METADATA)
        pipelines, steps = repository_class(PIPELINE), repository_class(STEP)
        pipelines.save(data=pipeline)
        steps.save(data=step)
        assert_holds(pipelines.get(uuid=pipeline["uuid"]), pipeline)
        assert_holds(steps.get(uuid=step["uuid"]), step)

    def test_unknown_uuid_is_none(self, repository_class: RepositoryClass) -> None:
        """A uuid that nothing has gives None, in an empty table and in one with records."""
        pipelines = repository_class(PIPELINE)
        assert pipelines.get(uuid=str(uuid4())) is None
        pipelines.save(data=pipeline_record())
        assert pipelines.get(uuid=str(uuid4())) is None

    def test_models_are_apart(self, repository_class: RepositoryClass) -> None:
        """What is saved as a pipeline is no step."""
        record = pipeline_record()
        repository_class(PIPELINE).save(data=record)
        assert repository_class(STEP).get(uuid=record["uuid"]) is None
        assert not repository_class(STEP).search(filter=["status", Status.CREATED])

    def test_update_changes_its_record_only(self, repository_class: RepositoryClass) -> None:
        """The record has the new fields afterwards, its neighbours their old ones."""
        records = [pipeline_record() for _ in range(3)]
        pipelines = repository_class(PIPELINE)
        for record in records:
            pipelines.save(data=dict(record))
        records[1] |= {"status": Status.PENDING, "metadata": {"new": [1]}}
        pipelines.update(uuid=records[1]["uuid"], data=dict(records[1]))
        for record in records:
            assert_holds(pipelines.get(uuid=record["uuid"]), record)

    def test_update_takes_metadata_away(self, repository_class: RepositoryClass) -> None:
        """Metadata are replaced, not merged."""
        record = step_record(metadata={"old": 1, "kept": {"inner": 1, "gone": 2}})
        steps = repository_class(STEP)
        steps.save(data=dict(record))
        record["metadata"] = {"kept": {"inner": 1}}
        steps.update(uuid=record["uuid"], data=dict(record))
        assert_holds(steps.get(uuid=record["uuid"]), record)

    def test_update_of_nothing_adds_nothing(self, repository_class: RepositoryClass) -> None:
        """An update of a uuid that nothing has adds no record; it may raise."""
        pipelines, record = repository_class(PIPELINE), pipeline_record()
        try:
            pipelines.update(uuid=record["uuid"], data=record)
        except Exception:
            pass
        assert pipelines.get(uuid=record["uuid"]) is None

    def test_search_follows_updates(self, repository_class: RepositoryClass) -> None:
        """A record is found under its new status at once, and no longer under its old one, however often that was asked."""
        pipelines, record = repository_class(PIPELINE), pipeline_record()
        assert search_uuids(pipelines, "status", Status.CREATED) == []
        pipelines.save(data=dict(record))
        assert search_uuids(pipelines, "status", Status.CREATED) == [record["uuid"]]
        pipelines.update(uuid=record["uuid"], data={**record, "status": Status.PENDING})
        assert search_uuids(pipelines, "status", Status.CREATED) == []
        assert search_uuids(pipelines, "status", Status.PENDING) == [record["uuid"]]

    def test_search_returns_all_in_order(self, repository_class: RepositoryClass) -> None:
        """All that match come, in the order they were saved, also after updates; nothing else comes."""
        steps, uuid = repository_class(STEP), str(uuid4())
        records = [step_record(pipeline_uuid=uuid) for _ in range(60)]
        for record in records:
            steps.save(data=dict(record))
            steps.save(data=step_record())
        for record in reversed(records[:10]):
            steps.update(uuid=record["uuid"], data={**record, "status": Status.FINISHED, "metadata": METADATA})
        assert search_uuids(steps, "pipeline_uuid", uuid) == [record["uuid"] for record in records]

    def test_search_compares_whole_values(self, repository_class: RepositoryClass) -> None:
        """A value that is part of a field's, or a pattern, or in another case, matches nothing."""
        steps = repository_class(STEP)
        record = step_record(name="Backup")
        steps.save(data=record)
        for value in ("Back", "Backup ", "backup", "Back%", "B_ckup", ".*", "*", ""):
            assert search_uuids(steps, "name", value) == [], f"found by {value!r}"
        assert search_uuids(steps, "name", "Backup") == [record["uuid"]]

    def test_saved_data_are_the_repositorys(self, repository_class: RepositoryClass) -> None:
        """What the caller changes afterwards in what was saved or updated does not change the record."""
        pipelines, record = repository_class(PIPELINE), pipeline_record(metadata={"list": [1]})
        pipelines.save(data=record)
        record["metadata"]["list"].append(2)
        assert_holds(pipelines.get(uuid=record["uuid"]), {**record, "metadata": {"list": [1]}})
        pipelines.update(uuid=record["uuid"], data=record)
        record["metadata"]["list"].append(3)
        assert_holds(pipelines.get(uuid=record["uuid"]), {**record, "metadata": {"list": [1, 2]}})

    def test_instances_share_their_records(self, repository_class: RepositoryClass) -> None:
        """An instance sees what another of the same model wrote before it was made, updates included."""
        record = pipeline_record()
        repository_class(PIPELINE).save(data=dict(record))
        assert_holds(repository_class(PIPELINE).get(uuid=record["uuid"]), record)
        repository_class(PIPELINE).update(uuid=record["uuid"], data={**record, "status": Status.PENDING})
        assert search_uuids(repository_class(PIPELINE), "status", Status.PENDING) == [record["uuid"]]

    def test_orchestrator_carries_pipelines_on(self, repository_class: RepositoryClass) -> None:
        """Two pipelines of two steps are finished after as many passes as they need, with the metadata they left."""
        PIPELINES[CountingPipeline.name], STEPS[CountingStep.name] = CountingPipeline, CountingStep
        try:
            uuids = []
            for _ in range(2):
                pipeline = CountingPipeline(repository_class=repository_class)
                pipeline.start()
                uuids.append(pipeline.uuid)
            for _ in range(3):
                Orchestrator(OrchestratorConfig(repository_class=repository_class)).execute_pipelines()
        finally:
            del PIPELINES[CountingPipeline.name], STEPS[CountingStep.name]
        for uuid in uuids:
            found = PipelineProvider(repository_class).get_pipeline_by_uuid(uuid)
            assert found is not None
            assert found.status == Status.FINISHED
            steps = StepProvider(repository_class).search_steps_by_pipeline_uuid(uuid)
            assert [(step.status, step.metadata["count"]) for step in steps] == [(Status.FINISHED, 2)] * 2

    def test_claim_is_one_owners(self, repository_class: RepositoryClass) -> None:
        """Optional `claim`: of several owners one gets the pipeline, may take it again, and gives it back."""
        pipelines, record = repository_class(PIPELINE), pipeline_record(status=Status.PENDING)
        if not isinstance(pipelines, Claiming):
            return
        uuid = record["uuid"]
        pipelines.save(data=record)
        assert pipelines.claim(uuid=uuid, owner="a", lease_s=LEASE_S) is True
        assert repository_claim(repository_class, uuid, "b") is False
        assert pipelines.claim(uuid=uuid, owner="a", lease_s=LEASE_S) is True
        pipelines.release(uuid=uuid, owner="b")
        assert repository_claim(repository_class, uuid, "b") is False, "b has released what a holds"
        pipelines.release(uuid=uuid, owner="a")
        assert repository_claim(repository_class, uuid, "b") is True
        assert_holds(pipelines.get(uuid=uuid), record)

    def test_claim_runs_out(self, repository_class: RepositoryClass) -> None:
        """Optional `claim`: when its time is over, somebody else may have the pipeline, and the first one may not."""
        pipelines, record = repository_class(PIPELINE), pipeline_record()
        if not isinstance(pipelines, Claiming):
            return
        pipelines.save(data=record)
        assert pipelines.claim(uuid=record["uuid"], owner="a", lease_s=SHORT_LEASE_S) is True
        deadline = time.monotonic() + PATIENCE_S
        while not repository_claim(repository_class, record["uuid"], "b"):
            assert time.monotonic() < deadline, "the claim never runs out"
            time.sleep(SHORT_LEASE_S)
        assert pipelines.claim(uuid=record["uuid"], owner="a", lease_s=LEASE_S) is False

    def test_claim_is_atomic(self, repository_class: RepositoryClass) -> None:
        """Optional `claim`: of many that ask at once, each from a thread with an instance of its own, one gets it."""
        record = pipeline_record()
        pipelines = repository_class(PIPELINE)
        if not isinstance(pipelines, Claiming):
            return
        pipelines.save(data=record)
        barrier, taken = threading.Barrier(THREADS), []

        def take(owner: str) -> None:
            barrier.wait(timeout=10)
            if repository_claim(repository_class, record["uuid"], owner):
                taken.append(owner)

        threads = [threading.Thread(target=take, args=(f"owner {number}",)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        assert len(taken) == 1

    def test_transaction_is_kept_altogether(self, repository_class: RepositoryClass) -> None:
        """Optional `transaction`: what was saved and updated in it, of both models, is there afterwards."""
        pipelines, steps = repository_class(PIPELINE), repository_class(STEP)
        if not isinstance(pipelines, Transactional):
            return
        pipeline, step = pipeline_record(), step_record()
        with pipelines.transaction():
            pipelines.save(data=dict(pipeline))
            steps.save(data=dict(step))
            step["status"] = Status.PENDING
            steps.update(uuid=step["uuid"], data=dict(step))
        assert_holds(repository_class(PIPELINE).get(uuid=pipeline["uuid"]), pipeline)
        assert_holds(repository_class(STEP).get(uuid=step["uuid"]), step)

    def test_transaction_is_undone_altogether(self, repository_class: RepositoryClass) -> None:
        """Optional `transaction`: nothing of it is there after an exception, which is not swallowed; the next one works."""
        pipelines, steps = repository_class(PIPELINE), repository_class(STEP)
        if not isinstance(pipelines, Transactional):
            return
        old, pipeline, step = step_record(), pipeline_record(), step_record()
        steps.save(data=dict(old))
        raised = False
        try:
            with pipelines.transaction():
                steps.update(uuid=old["uuid"], data={**old, "status": Status.FINISHED})
                pipelines.save(data=pipeline)
                steps.save(data=step)
                raise InterruptedError
        except InterruptedError:
            raised = True
        assert raised, "transaction() swallows exceptions"
        assert pipelines.get(uuid=pipeline["uuid"]) is None
        assert steps.get(uuid=step["uuid"]) is None
        assert_holds(steps.get(uuid=old["uuid"]), old)
        assert search_uuids(steps, "status", Status.FINISHED) == []
        with pipelines.transaction():
            pipelines.save(data=pipeline)
        assert_holds(pipelines.get(uuid=pipeline["uuid"]), pipeline)


def repository_claim(repository_class: RepositoryClass, uuid: str, owner: str) -> bool:
    """Return what a new instance answers to a claim."""
    repository = repository_class(PIPELINE)
    assert isinstance(repository, Claiming)
    return repository.claim(uuid=uuid, owner=owner, lease_s=LEASE_S)
