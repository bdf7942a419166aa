"""The queue of a server process: what its conductor does with messages, over a real store, conductor and RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from stretto.core.errors import InputError, NotFoundError, RunBusyError, SourceError
from stretto.core.states import Reason, Status
from stretto.doors.server.queue import Taking, queueing
from stretto.engine.worker import Worker
from stretto.service import Service
from stretto.settings import Api, Settings
from stretto.waist import RunRequest
from stretto.wiring import open_server
from tests.support.queue import Broker, until
from tests.support.repository import make_repository

PIPELINE = """
name: p
jobs:
  j:
    stage: build
    image: any
    script: echo >> %s
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a server with a queue that nobody is connected to."""
    return Settings(
        home=tmp_path / "home", driver="process", queue="amqp://127.0.0.1:1/", api=Api(local_root=str(tmp_path))
    )


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    """A request for a pipeline that leaves a line in the file `effects`."""
    text = PIPELINE % (tmp_path / "effects")
    return RunRequest(repository=str(make_repository(tmp_path / "r", {"pipeline.yml": text})), branch="main")


@asynccontextmanager
async def conducting(settings: Settings) -> AsyncIterator[tuple[Service, Worker]]:
    """A server whose conductor conducts."""
    async with open_server(settings) as (service, worker):
        running = asyncio.create_task(worker.run())
        await until(lambda: worker.room, "lease")
        try:
            yield service, worker
        finally:
            await worker.drain()
            await running


async def test_take_returns_when_the_run_is_defined(settings: Settings, request_: RunRequest) -> None:
    """It has a spec then and goes on by itself to its end; once more does nothing; an unknown one is told."""
    async with conducting(settings) as (service, worker):
        ((row, _),) = await service.accept(request_)
        taking = Taking(service, worker, settings)
        await taking.take(row.id)
        assert (await service.means.store.load(row.id)).request is None
        await taking.take(row.id)
        with pytest.raises(NotFoundError):
            await taking.take("f" * 12)

        async def is_over() -> bool:
            return (await service.find_run(row.id)).ended_at is not None

        await until(is_over, "end of the run")
        assert (await service.find_run(row.id)).status is Status.SUCCESS
        await until(lambda: taking.room() == settings.conductor.runs, "room")


async def test_take_does_not_pass_for_done_what_another_holds(settings: Settings, request_: RunRequest) -> None:
    """While a live conductor has an undefined run, that is told, so that the message is kept."""
    async with conducting(settings) as (service, worker):
        ((row, _),) = await service.accept(request_)
        store = service.means.store
        await store.keep_lease("another", 60)
        claim = await store.claim(row.id, "another")
        taking = Taking(service, worker, settings)
        with pytest.raises(RunBusyError):
            await taking.take(row.id)
        await store.release(claim)
        await taking.take(row.id)


async def test_give_up_ends_an_undefined_run_only(settings: Settings, request_: RunRequest) -> None:
    """It fails with `engine_fault` and the message; one that is defined is left alone."""
    async with conducting(settings) as (service, worker):
        rows = [(await service.accept(request_))[0][0] for _ in range(2)]
        taking = Taking(service, worker, settings)
        await taking.give_up(rows[0].id, "nobody could")
        given_up = await service.find_run(rows[0].id)
        assert (given_up.status, given_up.reason, given_up.message) == (
            Status.FAILED,
            Reason.ENGINE_FAULT,
            "nobody could",
        )
        (spec,) = await service.compile(request_)
        store = service.means.store
        await store.keep_lease("another", 60)
        claim = await store.claim(rows[1].id, "another")
        await store.define(claim, spec)
        await store.release(claim)
        try:
            await taking.give_up(rows[1].id, "nobody could")
        except RunBusyError:
            pass  # its conductor was quicker, as it takes defined runs by itself
        assert (await service.find_run(rows[1].id)).reason != Reason.ENGINE_FAULT


async def test_accept_refuses_what_the_api_refuses(settings: Settings, request_: RunRequest, tmp_path: Path) -> None:
    """Paths outside the allowed root, passwords in addresses and drivers that may not be asked for store nothing."""
    async with open_server(settings) as (service, worker):
        taking = Taking(service, worker, settings)
        for refused in (
            RunRequest(repository="/etc"),
            RunRequest(repository="https://u:p@example.org/r.git"),
            RunRequest(repository="ext::sh -c id"),
        ):
            with pytest.raises((SourceError, InputError)):
                await taking.accept(refused)
        with pytest.raises(InputError, match="driver"):
            await taking.accept(RunRequest(repository=request_.repository, driver="docker"))
        assert await service.means.store.unpublished(older_than_s=0, again_after_s=0, limit=9) == []


@pytest.mark.rabbitmq
async def test_message_of_another_program_becomes_a_run(
    settings: Settings, request_: RunRequest, tmp_path: Path
) -> None:
    """A submission published twice runs once; one that is refused is a dead letter with the reason."""
    broker = Broker(os.environ["STRETTO_TEST_RABBITMQ"])
    settings = replace(settings, queue=broker.url)
    try:
        async with (
            conducting(settings) as (service, worker),
            queueing(settings, service, worker, names=broker.names) as queue,
        ):
            await until(lambda: queue.trouble is None, "connection")
            for repository, key in ((request_.repository, "k"), (request_.repository, "k"), ("/etc", "other")):
                body = {"schema": "stretto.submission/1", "request": {"repository": repository}, "idempotency_key": key}
                await broker.publish(json.dumps(body).encode())
            await until(lambda: (tmp_path / "effects").exists(), "effect")
            await until(lambda: _is_one(broker), "dead letter")
            queue.take_no_more()
        assert (tmp_path / "effects").read_text() == "\n"
        (dead,) = await broker.take(broker.names.dead)
        assert dead.headers["x-stretto-reason"] == "bad_request"
        assert "/etc" in dead.headers["x-stretto-message"]
    finally:
        await broker.clean()


async def _is_one(broker: Broker) -> bool:
    return await broker.count(broker.names.dead) == 1
