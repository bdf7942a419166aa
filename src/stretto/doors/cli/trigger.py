"""What `hook`, `schedule` and `forge` share: they ask a server, which checks everything and does it; here it is shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import click

from stretto.doors.cli.options import Options, say

C = TypeVar("C", bound=Callable[..., Any])


async def ask(options: Options, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Return the server's answer; InputError where the command line talks to none."""
    from stretto.core.errors import InputError

    async with options.open() as waist:
        if not waist.is_server:
            raise InputError(
                "hooks, schedules and forges are a server's, and there is none here",
                hint="start one with `stretto serve`, or name it with --server",
            )
        from stretto.client.client import Client

        assert isinstance(waist, Client)
        return await waist.ask(method, path, body)


def segment(text: str) -> str:
    """Return the text as one segment of a path."""
    return quote(text, safe="")


def order_options(command: C) -> C:
    """Add the options that say what is to be run."""
    for option in reversed(
        [
            click.option("--pipeline", "pipelines", multiple=True, metavar="NAME", help="A run for each; repeatable."),
            click.option("--file", metavar="PATH", help="The definition file within the repository."),
            click.option("--var", "variables", multiple=True, metavar="KEY=VALUE", help="A variable; repeatable."),
            click.option("--driver", metavar="NAME", help="Where jobs run."),
            click.option("--priority", type=int, default=0, show_default=True, help="Higher goes first."),
        ]
    ):
        command = option(command)
    return command


def order_of(
    repository: str,
    pipelines: Sequence[str],
    file: str | None,
    variables: Sequence[str],
    driver: str | None,
    priority: int,
) -> dict[str, Any]:
    """Return these options as the API has them."""
    pairs = {}
    for variable in variables:
        name, separator, value = variable.partition("=")
        if not separator:
            raise click.BadParameter(f"{variable!r} is no KEY=VALUE", param_hint="--var")
        pairs[name] = value
    return {
        "repository": repository,
        "pipelines": list(pipelines),
        "file": file,
        "variables": pairs,
        "driver": driver,
        "priority": priority,
    }


def show(options: Options, data: Any, told: str) -> None:
    """Print what the server said as JSON, or else `told`."""
    if options.json:
        say(json.dumps(data, ensure_ascii=False))
    elif not options.quiet:
        say(told)


def show_table(options: Options, data: Any, titles: Sequence[str], rows: Sequence[Sequence[object]], none: str) -> None:
    """Print what the server said as JSON, or as a table."""
    if options.json:
        say(json.dumps(data, ensure_ascii=False))
        return
    from stretto.reports.terminal import Cell

    style = options.style(sys.stdout)
    cells = [[Cell(style.clean("" if text is None else str(text))) for text in row] for row in rows]
    for line in style.table(tuple(titles), cells, right=frozenset()) or [none]:
        say(line)
