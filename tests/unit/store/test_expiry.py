"""Deleting runs with all that belongs to them."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest

from stretto.core.errors import NotFoundError
from stretto.core.ports import ArtifactFile, LogChunk, NewRun
from stretto.core.spec import AttemptKey
from stretto.store.artifacts import FileArtifacts
from stretto.store.expiry import delete_runs, expired_runs
from stretto.store.logs import FileLogs
from stretto.store.sqlite import SqliteStore
from tests.conformance.stores.history import BEGIN, fold, random_history, simple_spec


async def test_delete_runs_frees_logs_artifacts_and_rows(tmp_path: Path) -> None:
    """The newest runs and those under way stay; of the others nothing is left."""
    store = await SqliteStore.open(tmp_path / "stretto.db")
    logs, artifacts = FileLogs(tmp_path / "logs"), FileArtifacts(tmp_path / "artifacts")
    (tmp_path / "file").write_bytes(b"1234")
    ids = []
    for i in range(4):
        row, _ = await store.create_run(NewRun(simple_spec("a"), BEGIN))
        ids.append(row.id)
        key = AttemptKey(row.id, "a", 1)
        writer = await logs.open(key)
        await writer.append(LogChunk(BEGIN, b"hello", 5))
        await writer.close()
        await artifacts.add(key, [ArtifactFile("a", tmp_path / "file", 4)])
        if i != 1:
            claim = await store.claim(row.id, "me")
            stored = await store.load(row.id)
            run = fold(row.id, stored.spec, stored.events)
            events = list(random_history(random.Random(i), run))
            await store.commit(claim, events, run.take_changes())
    assert await expired_runs(store, keep=0, ended_before=BEGIN - timedelta(days=1)) == []
    expired = await expired_runs(store, keep=1)
    assert [row.number for row in expired] == [3, 1]
    under_way = await store.find_run("2")
    freed = await delete_runs(store, logs, artifacts, [*expired, under_way])
    assert freed >= 2 * len(b"hello")
    for id_ in (ids[0], ids[2]):
        with pytest.raises(NotFoundError):
            await store.load(id_)
        assert not artifacts.layer(AttemptKey(id_, "a", 1)).exists()
        assert not (tmp_path / "logs" / id_).exists()
    for id_ in (ids[1], ids[3]):
        assert (tmp_path / "logs" / id_).exists()
        assert (artifacts.layer(AttemptKey(id_, "a", 1)) / "a").read_bytes() == b"1234"
    await store.close()
