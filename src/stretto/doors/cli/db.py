"""`stretto db`: the database of a server. The only commands that touch its tables' shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from stretto.core.errors import SettingsError
from stretto.doors.cli.command import LazyGroup
from stretto.doors.cli.command import command as declare
from stretto.doors.cli.options import Options, say
from stretto.reports.human import count

if TYPE_CHECKING:
    from types import ModuleType

_HERE: Final = "stretto.doors.cli.db"
BEHIND: Final = 1
"""What `stretto db status` exits with while the tables are not those of this version."""

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "upgrade": (f"{_HERE}:upgrade", "Bring the tables of the database up to date."),
    "status": (f"{_HERE}:status", "Say whether the tables are those of this version."),
    "copy": (f"{_HERE}:copy", "Copy an embedded store into the database."),
}

_database: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--database", metavar="URL", help="The PostgreSQL database. Default: the setting `database`."
)


@click.group("db", cls=LazyGroup, modules=COMMANDS, example="stretto db upgrade --database postgresql://db/stretto")
def command() -> None:
    """Look after the database of a server.

    A server never changes tables by itself: it refuses those of another version and names the command to run.
    """


@declare("upgrade", example="stretto db upgrade --database postgresql://stretto@db/stretto")
@_database
@click.pass_obj
def upgrade(options: Options, database: str | None) -> None:
    """Bring the tables of the database up to date.

    All steps or none. Run it once, with any number of servers: it takes a lock.
    """
    url, postgres = _url(options, database), _postgres()
    applied = asyncio.run(postgres.upgrade(url))
    if options.json:
        say(json.dumps({"database": postgres.mask_url(url), "applied": applied}))
    elif not options.quiet:
        for name in applied:
            say(f"applied {name}")
        say(f"{postgres.mask_url(url)} is up to date")


@declare("status", example="stretto db status --json")
@_database
@click.pass_obj
def status(options: Options, database: str | None) -> int:
    """Say whether the tables are those of this version.

    Exits with 1 where they are older.
    """
    url, postgres = _url(options, database), _postgres()
    found = asyncio.run(postgres.status(url))
    if options.json:
        data = {"database": postgres.mask_url(url), "current": found.current, "wanted": found.wanted}
        say(json.dumps(data))
    elif found.current == found.wanted:
        say(f"{postgres.mask_url(url)} is up to date (version {found.current})")
    else:
        what = f"has version {found.current}" if found.current else "has no tables"
        say(f"{postgres.mask_url(url)} {what}, this Stretto needs version {found.wanted}; run: stretto db upgrade")
    return 0 if found.current == found.wanted else BEHIND


@declare("copy", example="stretto db copy ~/.local/share/stretto --database postgresql://stretto@db/stretto")
@click.argument("source", metavar="FROM", type=click.Path(path_type=Path))
@_database
@click.pass_obj
def copy(options: Options, source: Path, database: str | None) -> None:
    """Copy an embedded store into the database.

    FROM is a home, or the stretto.db in it. Runs keep their numbers and ids; logs and artifacts are files and stay in the
    home. The database must be up to date and have no runs; no process may be at work on a run of the home.
    """
    url, postgres = _url(options, database), _postgres()
    path = source / "stretto.db" if source.is_dir() else source
    copied = asyncio.run(postgres.copy(path, url))
    if options.json:
        say(json.dumps({"database": postgres.mask_url(url), "source": str(path), "rows": copied}))
    elif not options.quiet:
        runs, events = count(copied["run"], "run"), count(copied["event"], "event")
        say(f"copied {runs} with {events} from {path} to {postgres.mask_url(url)}")


def _url(options: Options, given: str | None) -> str:
    url = given or options.settings().database
    if not url:
        raise SettingsError("no database is named", hint="give --database URL, or set STRETTO_DATABASE")
    return url


def _postgres() -> ModuleType:
    """Return the store, which needs what only a server has installed."""
    try:
        from stretto.store import postgres
    except ImportError as error:
        raise SettingsError(
            f"PostgreSQL can't be used here ({error})", hint="install it with: pip install 'stretto[server]'"
        ) from error
    return postgres
