"""`stretto queue dead`: what it prints, exits with, and never shows."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from stretto.doors.amqp import dead
from stretto.doors.amqp.publisher import Publisher
from tests.support.queue import Broker, until
from tests.unit.doors.cli.conftest import Said


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """Queues of the test's own with two dead letters, m1 and m2, which the commands find."""
    found = Broker(os.environ["STRETTO_TEST_RABBITMQ"])
    for name in ("list_dead", "retry_dead", "drop_dead"):
        monkeypatch.setattr(dead, name, partial(getattr(dead, name), names=found.names))
    monkeypatch.setenv("STRETTO_QUEUE", found.url)

    async def bury() -> None:
        publisher = Publisher(found.url, names=found.names)
        running = asyncio.create_task(publisher.run())
        await until(lambda: publisher.trouble is None, "connection")
        for name in ("m1", "m2"):
            await publisher.bury(b"{", "malformed", f"why \x1b[31m{name}", message_id=name)
        publisher.stop()
        await running

    asyncio.run(bury())
    yield found
    asyncio.run(found.clean())


@pytest.mark.rabbitmq
def test_queue_dead_list_shows_id_reason_and_message(stretto: Callable[..., Said], broker: Broker) -> None:
    """As a table without control characters, or as JSON with the body."""
    table, data = stretto("queue", "dead", "list"), stretto("queue", "dead", "list", "--limit", "1", "--json")
    assert (table.code, data.code) == (0, 0)
    assert [line.split()[0] for line in table.text.splitlines()] == ["Id", "m1", "m2"]
    assert "malformed" in table.text
    assert "\x1b" not in table.text
    (letter,) = json.loads(data.out)
    assert (letter["id"], letter["reason"], letter["body"]) == ("m1", "malformed", "{")


@pytest.mark.rabbitmq
def test_queue_dead_retry_and_drop_act_on_those_named(stretto: Callable[..., Said], broker: Broker) -> None:
    """One is sent again, the other deleted; then there is none."""
    assert stretto("queue", "dead", "retry", "m1").text == "sent again: 1 dead letter\n"
    assert json.loads(stretto("queue", "dead", "drop", "--all", "--json").out) == {"count": 1}
    assert stretto("queue", "dead", "list").text == "No dead letters.\n"
    assert asyncio.run(broker.count()) == 1


@pytest.mark.parametrize("arguments", [[], ["m1", "--all"], [""]])
@pytest.mark.parametrize("what", ["retry", "drop"])
def test_queue_dead_needs_to_know_which(
    stretto: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, what: str, arguments: list[str]
) -> None:
    """Neither ids nor --all, or both, is bad input, and reaches no queue."""
    monkeypatch.setenv("STRETTO_QUEUE", "amqp://me:s3cret@127.0.0.1:1/")
    said = stretto("queue", "dead", what, *arguments)
    assert said.code == 2
    assert "--all" in said.err


def test_queue_that_is_away_is_told_without_its_password(
    stretto: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place is named; exit code 1, as trying later may help. Without a queue it is 2."""
    monkeypatch.setenv("STRETTO_QUEUE", "amqp://me:s3cret@127.0.0.1:1/")
    said = stretto("queue", "dead", "list")
    assert said.code == 1
    assert "amqp://me:***@127.0.0.1:1/" in said.err
    assert "s3cret" not in said.err + said.text
    monkeypatch.setenv("STRETTO_QUEUE", "")
    assert stretto("queue", "dead", "list").code == 2
