"""`stretto hook`: which deliveries of forges start runs."""

from __future__ import annotations

import asyncio
from typing import IO, Any, Final

import click

from stretto.doors.cli.command import LazyGroup
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options
from stretto.doors.cli.trigger import ask, order_of, order_options, segment, show, show_table

_HERE: Final = "stretto.doors.cli.hook"

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "create": (f"{_HERE}:create", "Let a forge's webhook start runs."),
    "list": (f"{_HERE}:list_hooks", "List hooks."),
    "delete": (f"{_HERE}:delete", "Delete a hook."),
    "deliveries": (f"{_HERE}:deliveries", "Show what became of a hook's deliveries."),
}


@click.group("hook", cls=LazyGroup, modules=COMMANDS, example="stretto hook list")
def command() -> None:
    """Let webhooks of forges start runs on a server."""


@declare("create", example="stretto hook create github https://github.com/acme/words --branch main")
@click.argument("kind", type=click.Choice(["github", "gitlab", "gitea", "forgejo"]))
@click.argument("repository")
@click.option(
    "--branch", "branches", multiple=True, metavar="PATTERN", help="Branches or tags; repeatable. Default: all."
)
@click.option("--path", "paths", multiple=True, metavar="PATTERN", help="Changed files; repeatable. Default: any.")
@click.option(
    "--event",
    "events",
    multiple=True,
    type=click.Choice(["push", "tag", "create", "pull_request"]),
    help="What starts runs; repeatable. Default: push and tag.",
)
@click.option("--secret-file", type=click.File(), metavar="FILE", help="The secret, - for stdin. Default: a new one.")
@order_options
@click.pass_obj
def create(
    options: Options,
    /,
    kind: str,
    repository: str,
    branches: tuple[str, ...],
    paths: tuple[str, ...],
    events: tuple[str, ...],
    secret_file: IO[str] | None,
    **order: Any,
) -> None:
    """Let a forge's webhook start runs.

    Prints where the forge is to send to, on this server, and the secret to give it, which is not shown again. A pattern that
    begins with ! takes out what matches.
    """
    body = order_of(repository, **order) | {"kind": kind, "branches": list(branches), "paths": list(paths)}
    if events:
        body["events"] = list(events)
    if secret_file is not None:
        body["secret"] = secret_file.read().strip()
    hook = asyncio.run(ask(options, "POST", "/hooks", body))
    show(options, hook, f"hook {hook['id']}\npath {hook['path']}\nsecret {hook['secret']}")


@declare("list", example="stretto hook list --json")
@click.pass_obj
def list_hooks(options: Options) -> None:
    """List hooks."""
    hooks = asyncio.run(ask(options, "GET", "/hooks"))["hooks"]
    rows = [
        (it["id"], it["kind"], it["repository"], ", ".join(it["events"]), ", ".join(it["branches"]) or "all")
        for it in hooks
    ]
    show_table(options, hooks, ("Id", "Kind", "Repository", "Events", "Branches"), rows, "No hooks.")


@declare("delete", example="stretto hook delete 0a1b2c3d4e5f6071")
@click.argument("hook", metavar="ID")
@click.pass_obj
def delete(options: Options, hook: str) -> None:
    """Delete a hook."""
    asyncio.run(ask(options, "DELETE", f"/hooks/{segment(hook)}"))
    show(options, {"id": hook}, f"hook {hook} is deleted")


@declare("deliveries", example="stretto hook deliveries 0a1b2c3d4e5f6071")
@click.argument("hook", metavar="ID")
@click.pass_obj
def deliveries(options: Options, hook: str) -> None:
    """Show what became of a hook's deliveries.

    Those of the last seven days that were signed, newest first: the runs they started, or why they started none.
    """
    found = asyncio.run(ask(options, "GET", f"/hooks/{segment(hook)}/deliveries"))["deliveries"]
    rows = [
        (
            it["received_at"][:19],
            it["event"],
            it["branch"],
            (it["commit"] or "")[:12],
            it["ignored"] or " ".join(it["runs"]),
        )
        for it in found
    ]
    show_table(options, found, ("Received", "Event", "Branch", "Commit", "Runs, or why none"), rows, "No deliveries.")
