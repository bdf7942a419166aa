"""What `stretto serve --check` says of the queue."""

from __future__ import annotations

from stretto.doors.amqp.address import mask
from stretto.doors.amqp.connection import close, connect, foreign_errors, server_name
from stretto.doors.amqp.topology import NAMES, Names, declare


async def probe(url: str, *, names: Names = NAMES) -> str:
    """Return what was found, in a sentence, the queues made where they are missing; SettingsError, QueueError."""
    connection = await connect(url, "check")
    try:
        with foreign_errors(url):
            channel = connection.channel(publisher_confirms=True)
            await channel.initialize()
            submissions, dead = await declare(channel, names)
            product, version = server_name(connection)
            waiting = submissions.declaration_result.message_count or 0
            buried = dead.declaration_result.message_count or 0
    finally:
        await close(connection)
    return f"{product} {version} at {mask(url)}: {waiting} submissions wait, {buried} dead letters"
