"""The options that say what is to run, for `run` and `plan`."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from stretto.waist import RunRequest

DRIVERS = click.Choice(["docker", "process"])

_OPTIONS = [
    click.argument("repository", required=False),
    click.option("-b", "--branch", metavar="NAME", help="Branch or tag. Default: what is checked out."),
    click.option("-c", "--commit", metavar="HASH", help="Commit. Default: the latest of the branch."),
    click.option("-f", "--file", metavar="PATH", help="Pipeline file within the repository."),
    click.option("-p", "--pipeline", "pipelines", multiple=True, metavar="NAME", help="Which pipeline; repeatable."),
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the file; repeatable."
    ),
    click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="Variable of every job; repeatable."),
    click.option("--driver", type=DRIVERS, help="Where jobs run. Default: the setting."),
    click.option("--working-tree", is_flag=True, help="Run the files as they are, uncommitted ones too."),
]


def request_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command; `read_request` takes what they give."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def read_request(variables: tuple[str, ...], **given: Any) -> RunRequest:
    """Return the request that the options make."""
    from stretto.definitions import read_variables
    from stretto.waist import RunRequest

    return RunRequest(directory=Path.cwd(), variables=read_variables(variables), by=user(), **given)


def user() -> str:
    """Return the name of who asks, for the record."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
