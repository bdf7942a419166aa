"""One frozen tree of settings, from `stretto.toml` and `STRETTO_*` variables. Nothing reads the environment but this module.

Each field states its unit, its default and why. A variable is `STRETTO_` and the path in capitals: `STRETTO_DOCKER_CPUS=2` sets
`cpus` in `[docker]`. Variables win over the file; the command line wins over both.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_type_hints

from stretto.core.errors import SettingsError
from stretto.core.frozen import frozen

FILE_NAME: Final = "stretto.toml"
PREFIX: Final = "STRETTO_"


@frozen
class Docker:
    """`[docker]`: where containers run and what they may use."""

    host: str = ""
    """URL of the engine (`unix://`, `tcp://`, `ssh://`). Empty: `DOCKER_HOST`, else the default socket."""
    pull: str = "missing"
    """`missing`, `always` or `never`: when an image is pulled."""
    user: str = ""
    """User (and `:group`) that scripts run as, unless the job names one. Empty: the image's own."""
    cpus: float = 0.0
    """How many processors' time a job may use. 0: no limit, as on a laptop one wants the job done."""
    memory_mb: int = 0
    """MiB of memory a job may use. 0: no limit."""
    pids: int = 4096
    """How many processes a job may have: enough for any build, too few for a fork bomb to harm the host."""
    network: str = "bridge"
    """Docker network a job is on: `bridge` (its own sandbox), `none`, `host`, or the name of one."""


@frozen
class Keep:
    """`[keep]`: what `gc` leaves."""

    days: float = 30.0
    """Days that a final run, its logs and artifacts are kept. A month covers most releases."""
    max_gb: float = 20.0
    """GiB of mirrors and checkouts that are kept; the least recently used go first."""


@frozen
class Api:
    """`[api]`: how a server is reached, and what it takes from a caller."""

    host: str = "127.0.0.1"
    """Address to listen on. Loopback unless said otherwise: a server that all may reach is a decision."""
    port: int = 8420
    """TCP port to listen on. 0: any that is free."""
    tls_cert: str = ""
    """PEM file with the certificate and its chain. Empty: no TLS, as behind a proxy or on loopback."""
    tls_key: str = ""
    """PEM file with the certificate's key."""
    root_path: str = ""
    """Path under which a proxy offers the server."""
    public_url: str = ""
    """URL by which people reach the server, for links in commit statuses. Empty: they have none."""
    max_body_mb: int = 12
    """MiB of a request: a definition has at most 10."""
    max_upload_mb: int = 1024
    """MiB of a source tree that is uploaded."""
    rate_per_minute: int = 1200
    """Requests a minute that one token may make, after a burst of as many. 0: no limit."""
    proxies: str = ""
    """Addresses of proxies, with commas between, that are believed when they say whom they speak for. Empty: none."""
    local_root: str = ""
    """Directory on the server whose repositories callers may name by path. Empty: none, as paths lead anywhere."""
    drivers: str = ""
    """Drivers, with commas between, that callers may ask for beside `driver`. Empty: none, as `process` runs on the host."""


@frozen
class Conductor:
    """`[conductor]`: how a server carries runs out."""

    place: str = ""
    """Which back-ends it reaches; conductors of one place adopt each other's jobs. Empty: this home."""
    runs: int = 100
    """How many runs it holds at once. Their jobs wait for slots; a held run costs some memory and no processor."""
    lease_s: float = 15.0
    """Seconds after which the runs of a silent conductor are taken over."""
    abandon_s: float = 300.0
    """Seconds without any conductor of a place after which jobs that run there are given up as lost."""


@frozen
class Slots:
    """`[slots]`: how many jobs of a driver run at once on this conductor. 0: as `jobs` says."""

    docker: int = 0
    """Containers."""
    process: int = 0
    """Processes on this host."""


@frozen
class Settings:
    """All settings."""

    home: Path = Path()
    """Where state is kept. Default `$XDG_DATA_HOME/stretto`, else `~/.local/share/stretto`; `STRETTO_HOME` sets it."""
    driver: str = "docker"
    """Where jobs run unless the command line says otherwise: `docker` or `process`."""
    jobs: int = 0
    """How many jobs run at once. 0: twice the processors, at least 4: jobs wait for the network and disk a lot."""
    prepare_ahead: int = 3
    """How many containers are started before their turn, to wait at a gate. 0 turns that off."""
    grace_s: float = 10.0
    """Seconds between TERM and KILL when a job is stopped."""
    artifacts_limit_mb: int = 2048
    """MiB of artifacts that one job may leave."""
    server: str = ""
    """URL of a server that the command line talks to. Empty: one that runs over `home`, if any; `none`: it does things itself."""
    database: str = ""
    """`postgresql://` URL of a server's database. Empty: SQLite in the home."""
    queue: str = ""
    """`amqp://` URL of the queue between a server's API and its conductors. Empty: the database is the queue."""
    api: Api = field(default_factory=Api)
    conductor: Conductor = field(default_factory=Conductor)
    slots: Slots = field(default_factory=Slots)
    docker: Docker = field(default_factory=Docker)
    keep: Keep = field(default_factory=Keep)


def load(environment: Mapping[str, str] | None = None, directory: Path | None = None) -> Settings:
    """Return the settings; SettingsError names the file or variable, the key, and what is wrong.

    The file is `$STRETTO_CONFIG`, else `$XDG_CONFIG_HOME/stretto/stretto.toml` (`~/.config/…`). A file that was named must exist.
    `directory` None means the user's configuration directory.
    """
    env = os.environ if environment is None else environment
    config = directory or Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "stretto"
    named = env.get("STRETTO_CONFIG")
    path = Path(named) if named else config / FILE_NAME
    data: dict[str, Any] = {}
    if named or path.exists():
        try:
            data = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{path}: {error}") from error
    settings = _fill(Settings(), data, str(path), ())
    settings = _from_variables(settings, env)
    if settings.home == Path():
        data_home = Path(env.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
        settings = replace(settings, home=data_home / "stretto")
    _check(settings)
    return replace(settings, home=settings.home.expanduser().absolute())


def _fill(section: Any, data: Mapping[str, Any], where: str, path: tuple[str, ...]) -> Any:
    """Return `section` with the values of `data`, checked; `path` is where it stands in the tree."""
    types = get_type_hints(type(section))
    changes: dict[str, Any] = {}
    for key, value in data.items():
        name = ".".join((*path, key))
        if key not in types:
            close = get_close_matches(key, types, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(types)}"
            raise SettingsError(f"{where}: unknown setting {name!r}", hint=hint)
        current = getattr(section, key)
        if is_dataclass(current):
            if not isinstance(value, Mapping):
                raise SettingsError(f"{where}: {name!r} is a section of settings, not a value")
            changes[key] = _fill(current, value, where, (*path, key))
        else:
            changes[key] = _convert(types[key], value, f"{where}: {name}")
    return replace(section, **changes)


def _from_variables(settings: Settings, environment: Mapping[str, str]) -> Settings:
    known: dict[str, tuple[str, ...]] = {}
    for item in fields(settings):
        section = getattr(settings, item.name)
        if is_dataclass(section):
            known |= {f"{PREFIX}{item.name}_{inner.name}".upper(): (item.name, inner.name) for inner in fields(section)}
        else:
            known[f"{PREFIX}{item.name}".upper()] = (item.name,)
    for variable in sorted(environment):
        if variable in known:
            *sections, key = known[variable]
            data: dict[str, Any] = {key: environment[variable]}
            for section_name in reversed(sections):
                data = {section_name: data}
            settings = _fill(settings, data, variable, ())
    return settings


def _convert(wanted: type, value: Any, where: str) -> Any:
    """Return `value` as the wanted type; numbers may come as text, since variables do."""
    if wanted is Path and isinstance(value, str) and value:
        return Path(value)
    if wanted is str and isinstance(value, str):
        return value
    if wanted in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isfinite(number) and (wanted is float or number.is_integer()):
            return wanted(number)
    raise SettingsError(f"{where}: {value!r} is not {_TYPE_NAMES.get(wanted, wanted.__name__)}")


_TYPE_NAMES: Final = {int: "a whole number", float: "a number", str: "a text", Path: "a path"}


def _check(settings: Settings) -> None:
    """Refuse values that have the right type and no meaning."""
    rules = [
        (settings.driver in ("docker", "process"), "driver", "must be docker or process"),
        (settings.docker.pull in ("missing", "always", "never"), "docker.pull", "must be missing, always or never"),
        (settings.jobs >= 0, "jobs", "must not be negative"),
        (0 <= settings.api.port < 65536, "api.port", "must be from 0 to 65535"),
        (settings.api.max_body_mb > 0, "api.max_body_mb", "must be above 0"),
        (settings.api.max_upload_mb > 0, "api.max_upload_mb", "must be above 0"),
        (settings.api.rate_per_minute >= 0, "api.rate_per_minute", "must not be negative"),
        (settings.conductor.runs > 0, "conductor.runs", "must be above 0"),
        (settings.conductor.lease_s >= 3, "conductor.lease_s", "must be at least 3"),
        (
            settings.conductor.abandon_s >= settings.conductor.lease_s,
            "conductor.abandon_s",
            "must not be below lease_s",
        ),
        (min(settings.slots.docker, settings.slots.process) >= 0, "slots", "must not be negative"),
        (settings.prepare_ahead >= 0, "prepare_ahead", "must not be negative"),
        (settings.grace_s >= 0, "grace_s", "must not be negative"),
        (settings.artifacts_limit_mb > 0, "artifacts_limit_mb", "must be above 0"),
        (settings.docker.cpus >= 0, "docker.cpus", "must not be negative"),
        (settings.docker.memory_mb >= 0, "docker.memory_mb", "must not be negative"),
        (settings.docker.pids > 0, "docker.pids", "must be above 0"),
        (settings.keep.days >= 0, "keep.days", "must not be negative"),
        (settings.keep.max_gb >= 0, "keep.max_gb", "must not be negative"),
    ]
    for holds, name, rule in rules:
        if not holds:
            raise SettingsError(f"setting {name} {rule}")
