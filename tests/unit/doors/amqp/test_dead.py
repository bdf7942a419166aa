"""Dead letters in a real RabbitMQ: looking at them, sending them again, deleting them."""

from __future__ import annotations

import pytest

from stretto.core.errors import NotFoundError
from stretto.doors.amqp.dead import drop_dead, list_dead, retry_dead
from tests.support.queue import Broker

from .conftest import publishing

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
async def three(broker: Broker) -> Broker:
    """Three dead letters with the ids a1, a2 and b1."""
    async with publishing(broker) as publisher:
        for name in ("a1", "a2", "b1"):
            await publisher.bury(
                name.encode(), "malformed", f"why {name}", headers={"trace": name, "x-death": [{}]}, message_id=name
            )
    return broker


async def test_list_shows_the_oldest_and_leaves_all(three: Broker) -> None:
    """Looking any number of times changes neither what is there nor its order."""
    for _ in range(25):
        letters = await list_dead(three.url, limit=2, names=three.names)
        assert [(letter.id, letter.body) for letter in letters] == [("a1", b"a1"), ("a2", b"a2")]
        assert (letters[0].reason, letters[0].message) == ("malformed", "why a1")
        assert letters[0].at.endswith("+00:00")
    assert await three.count(three.names.dead) == 3


async def test_list_of_none_is_empty(broker: Broker) -> None:
    """A broker that nobody used yet has no dead letters."""
    assert await list_dead(broker.url, limit=100, names=broker.names) == []


async def test_retry_sends_the_message_as_it_was(three: Broker) -> None:
    """Body, id and headers of the sender come back into the queue; ours and the broker's do not."""
    assert await retry_dead(three.url, ["a2"], names=three.names) == 1
    (message,) = await three.take()
    assert (message.body, message.message_id) == (b"a2", "a2")
    assert {**message.headers, "x-delivery-count": 0} == {"trace": "a2", "x-delivery-count": 0}
    assert [letter.id for letter in await list_dead(three.url, limit=9, names=three.names)] == ["a1", "b1"]


async def test_retry_of_all_empties_the_dead_letters(three: Broker) -> None:
    """Without ids every one is sent again."""
    assert await retry_dead(three.url, None, names=three.names) == 3
    assert {message.body for message in await three.take()} == {b"a1", b"a2", b"b1"}
    assert await three.count(three.names.dead) == 0


async def test_drop_deletes_by_the_start_of_the_id(three: Broker) -> None:
    """A start that several have means them all; the others stay."""
    assert await drop_dead(three.url, ["a"], names=three.names) == 2
    assert [letter.id for letter in await list_dead(three.url, limit=9, names=three.names)] == ["b1"]
    assert await drop_dead(three.url, None, names=three.names) == 1
    assert await three.count(three.names.dead) == await three.count() == 0


@pytest.mark.parametrize("act", [retry_dead, drop_dead])
async def test_unknown_id_is_told_and_changes_nothing(three: Broker, act) -> None:
    """One id that is not there, and none of the others is touched."""
    with pytest.raises(NotFoundError, match="'zz'"):
        await act(three.url, ["a1", "zz"], names=three.names)
    assert await three.count(three.names.dead) == 3
    assert await three.count() == 0
