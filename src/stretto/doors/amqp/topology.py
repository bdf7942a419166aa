"""The queues: what they are called and what they are. Publishers and consumers both declare them, whoever comes first.

    stretto.submissions   quorum queue; what the broker gives up on (x-delivery-limit) goes to stretto.dead, at least once
    stretto.dead          fanout exchange and quorum queue of messages that nobody could use, each with its reason

A change of the arguments is refused by the broker for a queue that exists (AMQP 0-9-1, `queue.declare`, 406), so a new version
that wants others must take new names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractQueue
from aio_pika.exceptions import ChannelPreconditionFailed

from stretto.core.errors import SettingsError

DELIVERY_LIMIT: Final = 20
"""How often a message may come back before the broker gives it up. The consumer does so sooner: see `consumer.Pace.deaths`."""
NO_LIMIT: Final = 1_000_000
"""Dead letters come back each time somebody looks at them; RabbitMQ 4 would delete them after 20 looks."""
DECLARE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Names:
    """What the queues are called; `dead` is an exchange as well."""

    submissions: str = "stretto.submissions"
    dead: str = "stretto.dead"


NAMES: Final = Names()


async def declare(channel: AbstractChannel, names: Names) -> tuple[AbstractQueue, AbstractQueue]:
    """Make what is not there yet; return submissions and dead letters. SettingsError where one exists and is another."""
    try:
        exchange = await channel.declare_exchange(names.dead, ExchangeType.FANOUT, durable=True, timeout=DECLARE_S)
        dead = await channel.declare_queue(
            names.dead,
            durable=True,
            arguments={"x-queue-type": "quorum", "x-delivery-limit": NO_LIMIT},
            timeout=DECLARE_S,
        )
        await dead.bind(exchange, timeout=DECLARE_S)
        submissions = await channel.declare_queue(
            names.submissions,
            durable=True,
            arguments={
                "x-queue-type": "quorum",
                "x-delivery-limit": DELIVERY_LIMIT,
                "x-dead-letter-exchange": names.dead,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",  # which at-least-once demands (RabbitMQ, quorum queues)
            },
            timeout=DECLARE_S,
        )
    except ChannelPreconditionFailed as error:
        raise SettingsError(
            f"the message queue has something else under a name of ours: {str(error)[:300]}",
            hint="delete it there once it is empty (rabbitmqctl delete_queue NAME), or give Stretto a virtual host of its own",
        ) from error
    return submissions, dead
