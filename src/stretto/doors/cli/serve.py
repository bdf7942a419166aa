"""`stretto serve`."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from dataclasses import replace
from typing import Final

import click

from stretto.core.errors import SettingsError
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import COLLECT_EVERY, Options, say
from stretto.settings import Settings

NOT_READY: Final = 1
"""What `--check` exits with where something is wrong."""


@declare("serve", example="stretto serve --port 8420")
@click.option(
    "--role",
    type=click.Choice(["all", "api", "conductor"]),
    default="all",
    show_default=True,
    help="What this process does of a server's work.",
)
@click.option("--host", metavar="ADDRESS", help="Where to listen. Default: api.host.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="Where to listen; 0: any. Default: api.port.")
@click.option("--insecure", is_flag=True, help="Listen beyond this host without TLS.")
@click.option(
    "--log-format", type=click.Choice(["plain", "json"]), default="plain", show_default=True, help="json: ECS."
)
@click.option("--check", is_flag=True, help="Only try what the server needs, and say what is wrong.")
@click.pass_obj
def command(
    options: Options, role: str, host: str | None, port: int | None, insecure: bool, log_format: str, check: bool
) -> int:
    """Run a server: its API, its conductor, or both.

    Prints its URL and serves until SIGTERM or Ctrl-C; jobs that run then go on and are taken up by the next conductor. A
    conductor listens, for who watches it, only if it is given a port.
    """
    try:
        from stretto.doors.server import journal, probe, serve
    except ImportError as error:
        raise SettingsError(
            f"a server can't be run here ({error})", hint="install it with: pip install 'stretto[server]'"
        ) from error
    settings = _settings(options, host, port)
    chosen = serve.ROLES[role]
    journal.install(log_format, verbose=options.verbose, quiet=options.quiet)
    gc.set_threshold(*COLLECT_EVERY)
    if check:
        return _tell(options, asyncio.run(probe.probe(settings, chosen, insecure=insecure)))
    listens = chosen.api or port is not None
    asyncio.run(serve.serve(settings, chosen, listens=listens, insecure=insecure, said=say))
    return 0


def _settings(options: Options, host: str | None, port: int | None) -> Settings:
    settings = options.settings()
    api = settings.api
    return replace(settings, api=replace(api, host=host or api.host, port=api.port if port is None else port))


def _tell(options: Options, findings: list) -> int:  # type: ignore[type-arg]
    is_good = all(it.is_good for it in findings)
    if options.json:
        data = [{"name": it.name, "ok": it.is_good, "told": it.told, "hint": it.hint} for it in findings]
        say(json.dumps({"ok": is_good, "checks": data}, ensure_ascii=False))
        return 0 if is_good else NOT_READY
    style = options.style(sys.stdout)
    for it in findings:
        if not options.quiet or not it.is_good:
            say(f"{'ok ' if it.is_good else 'BAD'}  {it.name:<16} {style.clean(it.told)}")
            if it.hint:
                say(f"     {'':<16} hint: {style.clean(it.hint)}")
    return 0 if is_good else NOT_READY
