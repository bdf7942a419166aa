"""What an attendant says of itself while it is told to stop."""

from __future__ import annotations

from pathlib import Path

from stretto.core import events as ev
from stretto.core.run import Run
from stretto.core.spec import AttemptKey, JobSpec, RunSpec
from stretto.drivers.fake import FakeDriver, FakeWorld
from stretto.engine.attempt import Attendant, Places
from stretto.store.artifacts import FileArtifacts
from stretto.store.logs import FileLogs
from stretto.wiring import SystemClock


async def test_attempt_counts_as_stopping_from_the_call_on(tmp_path: Path) -> None:
    """Who wants it killed a moment after it was asked to stop must find it among those that are being stopped."""
    clock, posted = SystemClock(), list[ev.Event]()
    run = Run("run1", RunSpec("pipeline", "one", ("test",), (JobSpec("job", "test", "fake"),)))
    attendant = Attendant(
        AttemptKey("run1", "job", 1),
        run.job("job"),
        FakeDriver(FakeWorld(), clock),
        tmp_path / "attempt",
        adopted=False,
        places=Places(FileLogs(tmp_path / "logs"), FileArtifacts(tmp_path / "artifacts"), clock, 1, 10.0),
        launch=None,  # type: ignore[arg-type]  # nothing is started
        post=posted.append,
    )
    assert not attendant.is_stopping
    stopping = attendant.stop(grace_s=10.0)
    assert attendant.is_stopping
    await stopping
    assert posted == []
