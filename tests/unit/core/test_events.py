"""Events as they are stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from stretto.core.events import Artifact, AttemptEnded, Outcome, from_json, to_json
from stretto.core.states import Status

AT = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "artifact",
    [
        Artifact("empty", 0, "e3b0"),
        Artifact("program", 1, "4355", executable=True),
        Artifact("link", 6, "2a2b", link="target"),
        Artifact("link", 0, "e3b0", link=""),
    ],
)
def test_artifact_comes_back_as_it_was(artifact: Artifact) -> None:
    """Values that are false or empty are values: a file without content has a size."""
    event = AttemptEnded(AT, "job", 1, Outcome(Status.SUCCESS, exit_code=0), (artifact,))
    assert from_json("attempt_ended", AT, json.loads(json.dumps(to_json(event)))) == event
