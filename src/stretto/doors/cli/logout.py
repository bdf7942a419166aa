"""`stretto logout`."""

from __future__ import annotations

import json

import click

from stretto.client.credentials import delete_token, known_servers
from stretto.client.target import normalize
from stretto.core.errors import InputError
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say
from stretto.doors.cli.server import NO_SERVER, credentials_file


@declare("logout", example="stretto logout https://stretto.example.org")
@click.argument("url", required=False)
@click.pass_obj
def command(options: Options, url: str | None) -> None:
    """Forget the token for a server.

    Without URL, that of the server which commands talk to. The token itself stays valid until it is revoked at the server.
    """
    path = credentials_file()
    url = url or options.settings().server
    if url in ("", NO_SERVER):
        known = ", ".join(known_servers(path)) or "none"
        raise InputError("which server?", hint=f"servers that a token is kept for: {known}")
    url = normalize(url)
    forgot = delete_token(path, url)
    if options.json:
        say(json.dumps({"server": url, "forgot": forgot}))
    elif not options.quiet:
        say(f"logged out of {url}" if forgot else f"there was no token for {url}")
