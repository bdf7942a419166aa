"""`stretto forge`: who is told how commits fared."""

from __future__ import annotations

import asyncio
from typing import IO, Final

import click

from stretto.doors.cli.command import LazyGroup
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options
from stretto.doors.cli.trigger import ask, segment, show, show_table

_HERE: Final = "stretto.doors.cli.forge"

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "set": (f"{_HERE}:put", "Tell a forge how its commits fared."),
    "list": (f"{_HERE}:list_forges", "List forges."),
    "delete": (f"{_HERE}:delete", "Tell a forge nothing any more."),
}


@click.group("forge", cls=LazyGroup, modules=COMMANDS, example="stretto forge list")
def command() -> None:
    """Let a server tell forges how commits fared."""


@declare("set", example="stretto forge set github.com github --token-env STRETTO_FORGE_GITHUB")
@click.argument("host")
@click.argument("kind", type=click.Choice(["github", "gitlab", "gitea", "forgejo"]))
@click.option("--api-url", metavar="URL", help="Where its API is. Default: the usual place of its kind.")
@click.option(
    "--token", type=click.File(), metavar="FILE", help="The token is in this file, - for stdin; it is stored."
)
@click.option("--token-env", metavar="NAME", help="The token is in this variable of the server.")
@click.option("--token-file", metavar="NAME", help="The token is in this file of the server's forges directory.")
@click.option("--every-run", is_flag=True, help="Tell of runs that people start, too.")
@click.pass_obj
def put(
    options: Options,
    host: str,
    kind: str,
    api_url: str | None,
    token: IO[str] | None,
    token_env: str | None,
    token_file: str | None,
    every_run: bool,
) -> None:
    """Tell a forge how its commits fared.

    HOST is that of the repositories' addresses. What was set for it before is replaced.
    """
    body = {
        "host": host,
        "kind": kind,
        "api_url": api_url,
        "token": None if token is None else token.read().strip(),
        "token_env": token_env,
        "token_file": token_file,
        "every_run": every_run,
    }
    forge = asyncio.run(ask(options, "POST", "/forges", body))
    show(options, forge, f"statuses of commits at {forge['host']} go to {forge['api_url']}")


@declare("list", example="stretto forge list --json")
@click.pass_obj
def list_forges(options: Options) -> None:
    """List forges."""
    forges = asyncio.run(ask(options, "GET", "/forges"))["forges"]
    rows = [(it["host"], it["kind"], it["api_url"], it["token"]) for it in forges]
    show_table(options, forges, ("Host", "Kind", "API", "Token"), rows, "No forges.")


@declare("delete", example="stretto forge delete git.example.com")
@click.argument("host")
@click.pass_obj
def delete(options: Options, host: str) -> None:
    """Tell a forge nothing any more.

    Its token is forgotten too.
    """
    asyncio.run(ask(options, "DELETE", f"/forges/{segment(host)}"))
    show(options, {"host": host}, f"forge {host} is deleted")
