"""`stretto schedule`: what a server runs at which times."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import click

from stretto.doors.cli.command import LazyGroup
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options
from stretto.doors.cli.trigger import ask, order_of, order_options, segment, show, show_table

_HERE: Final = "stretto.doors.cli.schedule"

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "create": (f"{_HERE}:create", "Run something at certain times."),
    "list": (f"{_HERE}:list_schedules", "List schedules."),
    "enable": (f"{_HERE}:enable", "Let a schedule run again."),
    "disable": (f"{_HERE}:disable", "Keep a schedule from running."),
    "delete": (f"{_HERE}:delete", "Delete a schedule."),
}


@click.group("schedule", cls=LazyGroup, modules=COMMANDS, example="stretto schedule list")
def command() -> None:
    """Let a server run something at certain times."""


@declare("create", example="stretto schedule create '30 2 * * *' https://github.com/acme/words --zone Europe/Berlin")
@click.argument("cron")
@click.argument("repository")
@click.option("--zone", default="UTC", show_default=True, metavar="NAME", help="Time zone, such as Europe/Berlin.")
@click.option("-b", "--branch", metavar="NAME", help="Branch or tag. Default: the repository's own.")
@order_options
@click.pass_obj
def create(options: Options, /, cron: str, repository: str, zone: str, branch: str | None, **order: Any) -> None:
    """Run something at certain times.

    CRON has five fields: minute, hour, day, month and weekday; or it is a name such as @daily.
    """
    body = order_of(repository, **order) | {"cron": cron, "zone": zone, "branch": branch}
    schedule = asyncio.run(ask(options, "POST", "/schedules", body))
    show(options, schedule, f"schedule {schedule['id']}, due at {schedule['next_at']}")


@declare("list", example="stretto schedule list --json")
@click.pass_obj
def list_schedules(options: Options) -> None:
    """List schedules."""
    schedules = asyncio.run(ask(options, "GET", "/schedules"))["schedules"]
    rows = [(it["id"], it["cron"], it["zone"], it["repository"], it["next_at"] or "disabled") for it in schedules]
    show_table(options, schedules, ("Id", "Cron", "Zone", "Repository", "Next"), rows, "No schedules.")


@declare("enable", example="stretto schedule enable 0a1b2c3d4e5f6071")
@click.argument("schedule", metavar="ID")
@click.pass_obj
def enable(options: Options, schedule: str) -> None:
    """Let a schedule run again.

    It is due at its next occurrence from now on.
    """
    changed = asyncio.run(ask(options, "PATCH", f"/schedules/{segment(schedule)}", {"enabled": True}))
    show(options, changed, f"schedule {schedule} is enabled, due at {changed['next_at']}")


@declare("disable", example="stretto schedule disable 0a1b2c3d4e5f6071")
@click.argument("schedule", metavar="ID")
@click.pass_obj
def disable(options: Options, schedule: str) -> None:
    """Keep a schedule from running."""
    changed = asyncio.run(ask(options, "PATCH", f"/schedules/{segment(schedule)}", {"enabled": False}))
    show(options, changed, f"schedule {schedule} is disabled")


@declare("delete", example="stretto schedule delete 0a1b2c3d4e5f6071")
@click.argument("schedule", metavar="ID")
@click.pass_obj
def delete(options: Options, schedule: str) -> None:
    """Delete a schedule."""
    asyncio.run(ask(options, "DELETE", f"/schedules/{segment(schedule)}"))
    show(options, {"id": schedule}, f"schedule {schedule} is deleted")
