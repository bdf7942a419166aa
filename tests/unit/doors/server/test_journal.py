"""The log of a server: one line for each message, or one record of ECS."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from stretto.doors.server import journal


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """What is logged; the handlers of the tests are put back."""
    root, ours = logging.getLogger(), logging.getLogger("stretto")
    kept = (root.handlers[:], root.level, ours.level)
    yield io.StringIO()
    root.handlers[:], level, our_level = kept
    root.setLevel(level)
    ours.setLevel(our_level)


def test_plain_lines_stay_lines(said: io.StringIO) -> None:
    """Nothing that is logged can be taken for a line of its own, and fields can be told apart."""
    journal.install("plain", stream=said)
    logging.getLogger("stretto.x").info(
        "found\nthis", extra={"path": "/a b\n12:00:00 error forged", "who": "", "status": 200}
    )
    (line,) = said.getvalue().splitlines()
    assert line.endswith(r"info     found\nthis path='/a b\n12:00:00 error forged' status=200")


def test_json_records_are_of_the_common_schema(said: io.StringIO) -> None:
    """Fields have the names that others know them by; errors have their trace."""
    journal.install("json", stream=said)
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("stretto.x").exception(
            "failed", extra={"path": "/a", "status": 500, "took_ms": 1.5, "run": "r"}
        )
    logging.getLogger("other").info("not ours")
    (record,) = [json.loads(line) for line in said.getvalue().splitlines()]
    assert record["message"] == "failed"
    assert record["url"]["path"] == "/a"
    assert record["http"]["response"]["status_code"] == 500
    assert record["stretto"] == {"took_ms": 1.5, "run": "r"}
    assert record["error"]["type"] == "ValueError"
    assert record["log.level"] == "error"
