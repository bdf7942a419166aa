"""`stretto queue`: what became of messages that nobody could use. Works on the queue itself, with or without a server."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Final

import click

from stretto.core.errors import InputError, SettingsError
from stretto.doors.cli.command import LazyGroup
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say

if TYPE_CHECKING:
    from types import ModuleType

    from stretto.doors.amqp.dead import DeadLetter

_HERE: Final = "stretto.doors.cli.queue"

COMMANDS: Final[dict[str, tuple[str, str]]] = {"dead": (f"{_HERE}:dead", "Look after dead letters.")}
DEAD: Final[dict[str, tuple[str, str]]] = {
    "list": (f"{_HERE}:list_dead", "List dead letters, oldest first."),
    "retry": (f"{_HERE}:retry", "Send dead letters again."),
    "drop": (f"{_HERE}:drop", "Delete dead letters."),
}


@click.group("queue", cls=LazyGroup, modules=COMMANDS, example="stretto queue dead list")
def command() -> None:
    """Look at the message queue of a server.

    It is the one that the setting `queue` names.
    """


@click.group("dead", cls=LazyGroup, modules=DEAD, example="stretto queue dead list")
def dead() -> None:
    """Look after dead letters.

    These are the messages that no conductor could use. Each is kept, with the reason, until somebody sends it again or deletes
    it.
    """


@declare("list", example="stretto queue dead list --limit 20")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, metavar="N", help="How many at most."
)
@click.pass_obj
def list_dead(options: Options, limit: int) -> None:
    """List dead letters, oldest first.

    They stay where they are.
    """
    url, letters = _url(options), _letters()
    found: list[DeadLetter] = asyncio.run(letters.list_dead(url, limit=limit))
    if options.json:
        say(json.dumps([_to_json(letter) for letter in found], ensure_ascii=False))
        return
    from stretto.reports.terminal import Cell

    style = options.style(sys.stdout)
    rows = [
        [Cell(style.clean(text)) for text in (letter.id or "-", letter.at, letter.reason, letter.message)]
        for letter in found
    ]
    for line in style.table(("Id", "At", "Reason", "Message"), rows, right=frozenset()) or ["No dead letters."]:
        say(line)


@declare("retry", example="stretto queue dead retry --all")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All that are there.")
@click.pass_obj
def retry(options: Options, ids: tuple[str, ...], every: bool) -> None:
    """Send dead letters again.

    ID is what `stretto queue dead list` shows, or its start. A conductor takes the message as if it were new.
    """
    _say(options, "sent again", asyncio.run(_letters().retry_dead(_url(options), _chosen(ids, every))))


@declare("drop", example="stretto queue dead drop 0a1b2c3d")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All that are there.")
@click.pass_obj
def drop(options: Options, ids: tuple[str, ...], every: bool) -> None:
    """Delete dead letters.

    ID is what `stretto queue dead list` shows, or its start.
    """
    _say(options, "deleted", asyncio.run(_letters().drop_dead(_url(options), _chosen(ids, every))))


def _chosen(ids: tuple[str, ...], every: bool) -> tuple[str, ...] | None:
    """Return the ids to act on, None for all."""
    if every == bool(ids) or not all(ids):
        raise InputError("name the ids of dead letters, or --all", hint="`stretto queue dead list` shows them")
    return None if every else ids


def _say(options: Options, what: str, count: int) -> None:
    if options.json:
        say(json.dumps({"count": count}))
    elif not options.quiet:
        from stretto.reports.human import count as counted

        say(f"{what}: {counted(count, 'dead letter')}")


def _url(options: Options) -> str:
    url = options.settings().queue
    if not url:
        raise SettingsError("there is no message queue", hint="set queue, or STRETTO_QUEUE, to its amqp:// URL")
    return url


def _letters() -> ModuleType:
    try:
        from stretto.doors.amqp import dead as letters
    except ImportError as error:
        raise SettingsError(
            f"the queue can't be reached from here ({error})", hint="install it with: pip install 'stretto[server]'"
        ) from error
    return letters


def _to_json(letter: DeadLetter) -> dict[str, str]:
    return {
        "id": letter.id,
        "at": letter.at,
        "reason": letter.reason,
        "message": letter.message,
        "body": letter.body.decode(errors="backslashreplace"),
    }
