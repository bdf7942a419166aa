"""Start and stop what the tests and the demo need. A module of `scripts/service/` per service; the registry is below.

`up` uses what already answers, and starts its own only where nothing does: everything of it (data, sockets, pid files, logs)
is under `.services/`, and `.services/env` holds the variables that lead to it, to be sourced by a shell. `down` stops by the
pid that `up` recorded, never by name, and deletes. `halt` stops a server and keeps its data, `restart` also starts it again.
All may be called any number of times.
"""

from __future__ import annotations

import argparse
import fcntl
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.service.docker import Docker
from scripts.service.postgres import Postgres
from scripts.service.process import Service, ServiceError, say
from scripts.service.program import Program
from scripts.service.rabbitmq import RabbitMQ
from scripts.service.server import Server

ROOT: Final = Path(__file__).resolve().parent.parent
STATE: Final = ROOT / ".services"

SERVICES: Final[dict[str, Service]] = {
    "docker": Docker(STATE),
    "postgres": Postgres(STATE),
    "rabbitmq": RabbitMQ(STATE),
    "busybox": Program("busybox", "busybox-static"),  # what tests put into their images
    "chromium": Program("chromium", "chromium"),  # looks at the HTML report
    "compose": Program("docker-compose", "docker-compose"),  # reads compose.yaml
    "systemd": Program("systemd-analyze", "systemd"),  # reads the units
}


def up(names: list[str], *, own: bool = False) -> None:
    """Make the named services answer and write `.services/env`, which leads to all that answer, named or not.

    With `own`, what answers and was not started here is not used: it may end with whoever started it.
    """
    variables: dict[str, str] = {}
    for name, service in SERVICES.items():
        found = service.find(own=own)
        if found is None and name in names:
            say(f"{name}: starting")
            found = service.start()
            say(f"{name}: ready; scripts/services down stops what was started here")
        variables |= found or {}
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    new = STATE / "env.new"
    new.touch(mode=0o600)  # there are passwords in it
    new.write_text(lines)
    new.replace(STATE / "env")


def down(names: list[str]) -> None:
    """Stop and delete what `up` started; `.services` goes too when nothing is left in it."""
    (STATE / "env").unlink(missing_ok=True)
    for name in names:
        SERVICES[name].stop()


def status(names: list[str]) -> bool:
    """Say of each service whether it answers; return whether all do."""
    found = {name: SERVICES[name].find() for name in names}
    for name, variables in found.items():
        leads = ", ".join(f"{key}={value}" for key, value in (variables or {}).items())
        say(f"{name}: missing" if variables is None else f"{name}: ready {leads}".rstrip())
    return None not in found.values()


def halt(names: list[str], *, again: bool = False) -> None:
    """Stop servers that `up` started and keep their data; with `again`, start them on it."""
    for name in names:
        server = SERVICES[name]
        if not isinstance(server, Server):
            raise ServiceError(f"{name} has no data to keep: use up and down")
        server.halt()
        if again:
            server.run()


def main() -> int:
    """Do what the command line says; 1 with a message when a service can't be had."""
    parser = argparse.ArgumentParser(prog="scripts/services", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("up", "down", "halt", "restart", "status"))
    parser.add_argument("services", nargs="*", help=f"of {', '.join(SERVICES)}; all when none is named")
    parser.add_argument("--own", action="store_true", help="use nothing that was not started by this script")
    arguments = parser.parse_args()
    names = arguments.services or list(SERVICES)
    if unknown := set(names) - set(SERVICES):
        parser.error(f"unknown service {', '.join(sorted(unknown))}; there is {', '.join(SERVICES)}")
    if arguments.command in ("halt", "restart") and not arguments.services:
        parser.error(f"{arguments.command} needs the name of a server")
    if arguments.command == "status":
        return 0 if status(names) else 1
    STATE.mkdir(exist_ok=True)
    try:
        with (STATE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time; let go when the process ends
            if arguments.command == "up":
                up(names, own=arguments.own)
            elif arguments.command == "down":
                down(names)
            else:
                halt(names, again=arguments.command == "restart")
    except (ServiceError, OSError, subprocess.SubprocessError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
