"""`stretto login`."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from typing import Final

import click

from stretto.client.credentials import write_token
from stretto.client.target import Target, check_token, normalize
from stretto.core.errors import InputError
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.server import credentials_file, open_server

MAX_TOKEN_BYTES: Final = 4096


@declare("login", example="stretto login https://stretto.example.org")
@click.argument("url")
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input.")
@click.pass_obj
def command(options: Options, url: str, token_stdin: bool) -> None:
    """Keep the token for a server.

    The token is asked for without being shown, tried, and kept in credentials.toml beside the settings, which only you may read.
    STRETTO_TOKEN outranks it. Which server commands talk to is said by --server, STRETTO_SERVER or the setting `server`.
    """
    url = normalize(url)
    target = Target(url, _ask(url, from_stdin=token_stdin))
    version = asyncio.run(_verify(target))
    if not target.is_secure:
        say(f"{url} has no TLS: whoever is on the way can read the token", err=True)
    assert target.token is not None
    write_token(credentials_file(), url, target.token)
    if options.json:
        say(json.dumps({"server": url, "version": version}))
    elif not options.quiet:
        say(f"logged in to {url} (Stretto {version}); let commands talk to it with STRETTO_SERVER={url}")


def _ask(url: str, *, from_stdin: bool) -> str:
    if from_stdin:
        return check_token(sys.stdin.readline(MAX_TOKEN_BYTES))
    if not sys.stdin.isatty():
        raise InputError("there is no terminal to ask for the token on", hint="pipe it in, with --token-stdin")
    return check_token(getpass.getpass(f"Token for {url}: "))


async def _verify(target: Target) -> str:
    async with open_server(target) as client:
        await client.verify()
        return client.version
