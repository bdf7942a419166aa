"""`stretto token`: who may use a server. Works on the store itself, so that the first token can be made."""

from __future__ import annotations

import asyncio
import getpass
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from stretto.doors.cli.command import LazyGroup
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say

if TYPE_CHECKING:
    from stretto.access.audit import Entry
    from stretto.access.register import Register
    from stretto.access.token import Token

_HERE: Final = "stretto.doors.cli.token"
_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "create": (f"{_HERE}:create", "Make a token and print it, this once."),
    "list": (f"{_HERE}:list_tokens", "List tokens."),
    "revoke": (f"{_HERE}:revoke", "Make a token worthless."),
}


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on only
    """A time such as 12h, 30d or 8w."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the time."""
        found = re.fullmatch(r"([1-9]\d{0,4})([hdw])", str(value).strip(), re.ASCII)
        if found is None:
            self.fail(f"{value!r} is no time; write 12h, 30d or 8w", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


@click.group("token", cls=LazyGroup, modules=COMMANDS, example="stretto token create ann --scope run")
def command() -> None:
    """Say who may use a server.

    Works on the store of the home, or on the database that the setting `database` names, with or without a running server.
    """


@declare("create", example="stretto token create ci --scope run --repository 'https://example.org/team/*'")
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(["read", "run", "admin"]),
    default="run",
    show_default=True,
    help="What it is for; each has what the ones before it have.",
)
@click.option(
    "--repository",
    "repositories",
    multiple=True,
    metavar="PATTERN",
    help="It sees and starts only runs of these; repeatable.",
)
@click.option(
    "--expires-in", type=Duration(), metavar="TIME", help="It is worthless after 12h, 30d or 8w. Default: never."
)
@click.pass_obj
def create(
    options: Options, name: str, scope: str, repositories: tuple[str, ...], expires_in: timedelta | None
) -> None:
    """Make a token and print it, this once.

    NAME is what runs and the audit log call its owner. Only a hash of the token is kept.
    """
    from stretto.access.principal import Scope

    async def make() -> tuple[str, Token]:
        async with _register(options) as register:
            return await register.create(
                name,
                Scope(scope),
                repositories=repositories,
                expires_at=None if expires_in is None else datetime.now(UTC) + expires_in,
                by=_by("token.create"),
            )

    text, token = asyncio.run(make())
    if options.json:
        say(json.dumps(_to_json(token) | {"token": text}, ensure_ascii=False))
    else:
        say(text)


@declare("list", example="stretto token list --json")
@click.pass_obj
def list_tokens(options: Options) -> None:
    """List tokens.

    Newest first, revoked and expired ones too.
    """
    from stretto.reports.terminal import Cell

    async def read() -> list[Token]:
        async with _register(options) as register:
            return await register.list()

    tokens, now = asyncio.run(read()), datetime.now(UTC)
    if options.json:
        say(json.dumps([_to_json(token) for token in tokens], ensure_ascii=False))
        return
    style = options.style(sys.stdout)
    rows = [
        [
            Cell(token.id),
            Cell(style.clean(token.name)),
            Cell(token.scope.value),
            Cell(_state(token, now)),
            Cell("never" if token.used_at is None else f"{token.used_at:%Y-%m-%d %H:%M}"),
            Cell(style.clean(", ".join(token.repositories) or "all")),
        ]
        for token in tokens
    ]
    for line in style.table(("Id", "Name", "Scope", "State", "Used", "Repositories"), rows, right=frozenset()) or [
        "No tokens."
    ]:
        say(line)


@declare("revoke", example="stretto token revoke 0a1b2c3d4e5f")
@click.argument("token_id", metavar="ID")
@click.pass_obj
def revoke(options: Options, token_id: str) -> None:
    """Make a token worthless.

    ID is what `stretto token list` shows, the part of the token between its underscores. Running servers refuse it within a
    second.
    """

    async def end() -> Token:
        async with _register(options) as register:
            return await register.revoke(token_id, by=_by("token.revoke"))

    token = asyncio.run(end())
    if options.json:
        say(json.dumps(_to_json(token), ensure_ascii=False))
    elif not options.quiet:
        say(f"token {token.id} is revoked")


@asynccontextmanager
async def _register(options: Options) -> AsyncIterator[Register]:
    from stretto.access.register import Register
    from stretto.wiring import open_service

    async with open_service(options.settings()) as service:
        yield Register(service.means.store.tables, lambda: datetime.now(UTC))


def _by(action: str) -> Entry:
    from stretto.access.audit import Entry

    return Entry(datetime.now(UTC), getpass.getuser(), action, address="command line")


def _state(token: Token, now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    if token.expires_at is None:
        return "valid"
    return f"until {token.expires_at:%Y-%m-%d}" if token.is_valid(now) else "expired"


def _to_json(token: Token) -> dict[str, Any]:
    from stretto.access.token import token_to_json

    return token_to_json(token)
