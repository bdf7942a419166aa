"""What `run` and `plan` ask for: the options both take, and the request these make."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from stretto.definitions import read_variables
from stretto.drivers.registry import DRIVERS
from stretto.waist import RunRequest

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

DRIVER: Final = click.Choice(list(DRIVERS))

_PARAMETERS: Final = [
    click.argument("repository", required=False),
    click.option("-b", "--branch", metavar="NAME", help="Branch or tag; default: what is checked out."),
    click.option("-c", "--commit", metavar="HASH", help="Commit, full or abbreviated."),
    click.option("-f", "--file", metavar="PATH", help="Definition file, within the repository."),
    click.option("-p", "--pipeline", "pipelines", metavar="NAME", multiple=True, help="Pipeline; may be repeated."),
    click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Value over that of the file."),
    click.option("--var", "variables", metavar="NAME=VALUE", multiple=True, help="Variable of every job."),
    click.option("--driver", type=DRIVER, help="Where jobs run (STRETTO_DRIVER)."),
    click.option("--working-tree", is_flag=True, help="Take the files as they are, committed or not."),
]


def request_options(function: Decorated) -> Decorated:
    """Give a command the options that say what to run; they are the keyword arguments of `make_request`."""
    for parameter in reversed(_PARAMETERS):
        function = parameter(function)
    return function


def make_request(
    *,
    repository: str | None = None,
    branch: str | None = None,
    commit: str | None = None,
    file: str | None = None,
    pipelines: tuple[str, ...] = (),
    overrides: tuple[str, ...] = (),
    variables: tuple[str, ...] = (),
    driver: str | None = None,
    working_tree: bool = False,
) -> RunRequest:
    """Return the request that the options of `request_options` make; InputError."""
    return RunRequest(
        repository=repository,
        branch=branch,
        commit=commit,
        file=file,
        pipelines=pipelines,
        overrides=overrides,
        variables=read_variables(variables),
        driver=driver,
        working_tree=working_tree,
        by=who(),
    )


def who() -> str:
    """Return `user@host`; the number of a user who has no name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
