"""The only place that joins the parts: settings in, a service out."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stretto.core.errors import InputError, SettingsError
from stretto.core.ports import ArtifactStore, BlobStore, Driver, LogStore, Store
from stretto.drivers.registry import DRIVERS
from stretto.engine.attempt import Places
from stretto.engine.slots import Slots
from stretto.engine.worker import Terms, Worker
from stretto.service import Service, ServiceParts
from stretto.settings import Settings
from stretto.sources.git import Repositories
from stretto.store.artifacts import FileArtifacts
from stretto.store.blobs import FileBlobs
from stretto.store.logs import FileLogs
from stretto.store.shared import SharedArtifacts
from stretto.store.sqlite import SqliteStore
from stretto.store.uploads import Uploads

if TYPE_CHECKING:
    from stretto.store.postgres.storage import Storage

LEAST_JOBS: Final = 4
"""Jobs at once on a small machine: they wait for disk and network most of the time."""
DATABASE_WAIT_S: Final = 30.0
"""How long a server that starts waits for its database, which may be starting too. A command says at once that it is away."""
MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB


class SystemClock:
    """The time of this host."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Come back after `seconds`."""
        await asyncio.sleep(seconds)


@asynccontextmanager
async def open_service(settings: Settings, *, serves: bool = False) -> AsyncIterator[Service]:
    """Open the state under `settings.home`, made if missing, and give the service over it; all is closed at the end.

    With `serves` it leaves runs to the conductors of a server.
    """
    home = settings.home
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        installation = _installation(home)
    except OSError as error:
        message = f"can't keep state in {home}: {error.strerror}"
        raise SettingsError(message, hint="set STRETTO_HOME to a directory you may write to") from error
    drivers: dict[str, Driver] = {}

    def driver(name: str) -> Driver:
        if name not in drivers:
            if name not in _MAKERS:
                raise InputError(f"there is no driver {name!r}", hint=f"drivers: {', '.join(DRIVERS)}")
            drivers[name] = _MAKERS[name](settings, installation)
        return drivers[name]

    async with AsyncExitStack() as stack:
        store, logs, artifacts, blobs = await _open_storage(settings, stack, wait_s=DATABASE_WAIT_S if serves else 0.0)
        uploads = Uploads(store.tables, blobs)
        stack.push_async_callback(_close_all, drivers)
        service = Service(
            ServiceParts(
                store=store,
                repositories=Repositories(home, uploads.get),
                driver=driver,
                driver_names=tuple(DRIVERS),
                default_driver=settings.driver,
                places=Places(
                    logs=logs,
                    artifacts=artifacts,
                    clock=SystemClock(),
                    artifacts_limit_bytes=settings.artifacts_limit_mb * MIB,
                    grace_s=settings.grace_s,
                ),
                attempts=home / "attempts",
                jobs=_jobs(settings),
                prepare_ahead=settings.prepare_ahead,
                uploads=uploads,
                upload_limit_bytes=settings.api.max_upload_mb * MIB,
                owner=_owner(),
                place=settings.conductor.place or installation,
                serves=serves,
                keep_days=settings.keep.days,
                keep_bytes=int(settings.keep.max_gb * GIB),
            )
        )
        stack.push_async_callback(service.close)
        yield service


async def _open_storage(
    settings: Settings, stack: AsyncExitStack, *, wait_s: float
) -> tuple[Store, LogStore, ArtifactStore, BlobStore]:
    """Open where state is kept, closed with `stack`: files on this host, or a database that all hosts of a server share."""
    home = settings.home
    files = FileArtifacts(home / "artifacts")
    if settings.database:
        postgres = import_module("stretto.store.postgres")  # with the libraries of a server
        storage: Storage = await stack.enter_async_context(postgres.open_storage(settings.database, wait_s=wait_s))
        return storage.store, storage.logs, SharedArtifacts(files, storage.blobs), storage.blobs
    store = await SqliteStore.open(home / "stretto.db")
    stack.push_async_callback(store.close)
    return store, FileLogs(home / "logs"), files, FileBlobs(home / "uploads", store.tables)


async def _close_all(drivers: Mapping[str, Driver]) -> None:
    for driver in drivers.values():
        await driver.close()


@asynccontextmanager
async def open_server(settings: Settings) -> AsyncIterator[tuple[Service, Worker]]:
    """Open the state as `open_service` does, and give the service and the conductor of a server over it.

    The worker does nothing before its `run` is awaited; a server that is only an API never does so.
    """
    async with open_service(settings, serves=True) as service:
        conductor, slots = settings.conductor, settings.slots
        totals = {"docker": slots.docker, "process": slots.process}
        yield (
            service,
            Worker(
                service.means,
                Slots(_jobs(settings), {driver: total for driver, total in totals.items() if total}),
                Terms(
                    place=service.means.place,
                    runs=conductor.runs,
                    lease_s=conductor.lease_s,
                    abandon_s=conductor.abandon_s,
                    undefined=not settings.queue,
                ),
                owner=_owner(),
                reap=service.reap,
            ),
        )


def _owner() -> str:
    """Return a name for this process among conductors."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


def _jobs(settings: Settings) -> int:
    return settings.jobs or max(LEAST_JOBS, 2 * (os.cpu_count() or 1))


def _installation(home: Path) -> str:
    """Return the name by which this installation knows its own things on a shared back-end; made once."""
    path = home / "installation"
    if not path.exists():
        fresh = path.with_suffix(f".{secrets.token_hex(4)}")
        fresh.write_text(secrets.token_hex(8))
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass  # another process was first
        finally:
            fresh.unlink()
    return path.read_text().strip()


def _make_docker(settings: Settings, installation: str) -> Driver:
    module, docker = import_module(DRIVERS["docker"]), settings.docker
    driver: Driver = module.DockerDriver(
        module.DockerSettings(
            host=docker.host or None,
            memory_bytes=docker.memory_mb * MIB or None,
            cpus=docker.cpus or None,
            pids_limit=docker.pids,
            pull=docker.pull,
            user=docker.user or None,
            network=docker.network,
        ),
        installation=installation,
    )
    return driver


def _make_process(settings: Settings, installation: str) -> Driver:
    """The state's home is all that tells installations apart here."""
    module = import_module(DRIVERS["process"])
    driver: Driver = module.ProcessDriver(module.ProcessSettings(attempts=settings.home / "attempts"))
    return driver


_MAKERS: Final[dict[str, Callable[[Settings, str], Driver]]] = {"docker": _make_docker, "process": _make_process}
"""How each driver of the registry is made from the settings."""
