"""A tree that is not pushed, sent to a server: run on any of its hosts, read from any other, collected when nobody needs it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from stretto.core.errors import InputError, NotFoundError, SourceError, TooLargeError
from stretto.core.states import Status
from stretto.core.upload import Upload
from stretto.service import Service
from stretto.settings import Api, Settings
from stretto.store.postgres import upgrade
from stretto.waist import LogRequest, RunRequest
from stretto.wiring import open_service
from tests.support.pack import pack_commit, pieces
from tests.support.repository import git, make_repository

from .logs.harness import PostgresHarness

PIPELINE = """\
name: built
stages: [make, use]
jobs:
  make:
    stage: make
    script: [mkdir out, 'cat word > out/result']
    artifacts: {paths: [out/**]}
  use:
    stage: use
    script: ['cat out/result', 'echo "$STRETTO_BRANCH $STRETTO_COMMIT"']
"""
REPOSITORY = "ssh://git@git.example/shop.git"
MIB = 1 << 20


@dataclass
class Place:
    """A server's state: one home, or a database and as many homes as there are hosts."""

    directory: Path
    database: PostgresHarness | None

    def settings(self, host: str) -> Settings:
        name = host if self.database is not None else "home"
        url = "" if self.database is None else self.database.place
        return replace(Settings(), home=self.directory / name, driver="process", database=url, api=Api(max_upload_mb=1))

    def make_old(self) -> None:
        """Let two days pass for what was uploaded."""
        statement = "UPDATE {} SET used_at = used_at - 172800000000"
        if self.database is None:
            with sqlite3.connect(self.directory / "home/stretto.db") as connection:
                connection.execute(statement.format("upload"))
            connection.close()
            for pack in (self.directory / "home/uploads").glob("*.pack"):
                os.utime(pack, (0, 0))
        else:
            self.database.execute(statement.format("upload"))
            self.database.execute(statement.format("blob"))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    database = PostgresHarness(tmp_path) if request.param == "postgres" else None
    yield Place(tmp_path, database)
    if database is not None:
        database.drop()


@pytest.fixture
async def hosts(place: Place) -> AsyncIterator[list[Service]]:
    """Two services over the same state."""
    if place.database is not None:
        await upgrade(place.database.place)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_service(place.settings(name))) for name in ("one", "two")]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repository", {"pipeline.yml": PIPELINE, "word": "hello\n"})


@pytest.fixture
def head(repository: Path) -> str:
    return git(repository, "rev-parse", "HEAD")


async def send(service: Service, repository: Path, head: str, **facts) -> Upload:
    facts = {"repository": REPOSITORY, "branch": "topic", "by": "ann", **facts}
    return await service.add_upload(pieces(pack_commit(repository, head)), commit=head, **facts)


async def test_uploaded_tree_runs_on_another_host(hosts: list[Service], repository: Path, head: str) -> None:
    """One host takes the tree, a second one runs it, with artifacts between jobs; the first one reads output and artifacts."""
    one, two = hosts
    upload = await send(one, repository, head)
    assert (upload.commit, upload.repository, upload.branch) == (head, REPOSITORY, "topic")
    assert upload.commit_message == "Add everything"
    (row,) = await one.submit(RunRequest(upload=upload.id, by="ann"))
    assert (row.repository, row.branch, row.commit) == (REPOSITORY, "topic", head)
    report = await two.conduct(row.id)
    assert report.run.status is Status.SUCCESS
    output = b"".join([part async for part in one.logs(LogRequest(row.id, "use", follow=True))])
    assert output == f"hello\ntopic {head}\n".encode()
    (stored,) = await one.artifacts(row.id)
    assert stored.artifact.path == "out/result"
    assert b"".join([part async for part in one.artifact_data(stored)]) == b"hello\n"


async def test_same_tree_is_kept_once_under_each_name(hosts: list[Service], repository: Path, head: str) -> None:
    """The same sent twice, at once too, has one id; said to be of another branch it has another, and both stay what they are."""
    same = await asyncio.gather(*(send(hosts[i % 2], repository, head) for i in range(4)))
    assert len({upload.id for upload in same}) == 1
    other = await send(hosts[0], repository, head, branch="main")
    assert other.id != same[0].id
    for upload in (same[0], other):
        (spec,) = await hosts[1].compile(RunRequest(upload=upload.id))
        assert spec.source is not None
        assert (spec.source.branch, spec.source.upload) == (upload.branch, upload.digest)


async def test_upload_is_kept_while_a_run_uses_it(
    place: Place, hosts: list[Service], repository: Path, head: str
) -> None:
    """A collector leaves alone what is new and what a run has, and takes the rest, with its bytes."""
    used = await send(hosts[0], repository, head)
    await hosts[0].submit(RunRequest(upload=used.id))
    (repository / "word").write_text("other")
    git(repository, "commit", "--quiet", "--all", "--message", "Other")
    unused = await send(hosts[0], repository, git(repository, "rev-parse", "HEAD"))
    await hosts[0].gc(keep_days=30, max_bytes=1 << 40)
    await hosts[1].compile(RunRequest(upload=unused.id))  # and this is a use of it
    place.make_old()
    await hosts[1].compile(RunRequest(upload=used.id))
    place.make_old()
    await hosts[0].gc(keep_days=30, max_bytes=1 << 40)
    assert (await hosts[0].compile(RunRequest(upload=used.id)))[0].source.commit == head
    with pytest.raises(NotFoundError, match="no upload"):
        await hosts[0].compile(RunRequest(upload=unused.id))
    if place.database is None:
        assert [path.stem for path in (place.directory / "home/uploads").glob("*.pack")] == [used.digest]
    else:
        assert place.database.execute("SELECT digest FROM blob") == [(used.digest,)]


async def test_upload_that_is_asked_for_is_kept_another_day(
    place: Place, hosts: list[Service], repository: Path, head: str
) -> None:
    """An old upload that a new request names can't be taken before its run is on record."""
    upload = await send(hosts[0], repository, head)
    place.make_old()
    await hosts[1].compile(RunRequest(upload=upload.id))
    await hosts[0].gc(keep_days=30, max_bytes=1 << 40)
    (row,) = await hosts[0].submit(RunRequest(upload=upload.id))
    assert row.commit == head


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_accepted_request_keeps_its_upload(
    place: Place, hosts: list[Service], repository: Path, head: str
) -> None:
    """A run that is accepted and not compiled yet says what it is of, and keeps the upload; an unknown one is refused."""
    upload = await send(hosts[0], repository, head)
    [(row, _)] = await hosts[1].accept(RunRequest(upload=upload.id))
    assert (row.repository, row.branch) == (REPOSITORY, "topic")
    place.make_old()
    await hosts[0].gc(keep_days=30, max_bytes=1 << 40)
    assert (await hosts[1].compile(RunRequest(upload=upload.id)))[0].name == "built"
    with pytest.raises(NotFoundError):
        await hosts[0].accept(RunRequest(upload="0" * 64))


async def test_what_an_upload_says_of_itself_holds(hosts: list[Service], repository: Path, head: str) -> None:
    """A request can't give an upload another repository, branch or commit; an unknown upload is told."""
    upload = await send(hosts[0], repository, head)
    for field, value in (("repository", "/srv/secret"), ("branch", "main"), ("commit", "0" * 40)):
        with pytest.raises(InputError, match=field):
            await hosts[0].compile(RunRequest(upload=upload.id, **{field: value}))
    for name in ("0" * 64, "../../etc/passwd", ""):
        with pytest.raises(NotFoundError):
            await hosts[0].compile(RunRequest(upload=name))


@pytest.mark.parametrize(
    "facts",
    [
        {"commit": "HEAD"},
        {"commit": "-" * 40},
        {"repository": ""},
        {"repository": 'x"\n[core]\n\tsshCommand = evil'},
        {"repository": "https://ann:secret@git.example/r.git"},
        {"branch": "a\nb"},
        {"branch": ""},
    ],
)
async def test_facts_that_can_not_be_are_refused(hosts: list[Service], facts: dict[str, str]) -> None:
    """What is said of an upload is checked before a byte of it is read."""

    async def never():
        raise AssertionError
        yield b""

    with pytest.raises(InputError):
        await hosts[0].add_upload(never(), **{"commit": "c" * 40, "repository": "r", **facts})


async def test_refused_upload_is_not_kept(place: Place, hosts: list[Service], repository: Path, head: str) -> None:
    """What is too large, broken or not what was announced leaves neither row nor bytes."""
    data = pack_commit(repository, head)
    with pytest.raises(TooLargeError):
        await hosts[0].add_upload(pieces(data + bytes(2 * MIB), MIB), commit=head, repository="r")
    with pytest.raises(SourceError):
        await hosts[0].add_upload(pieces(data[:-5]), commit=head, repository="r")
    with pytest.raises(SourceError, match="SHA-256"):
        await hosts[0].add_upload(pieces(data), commit=head, repository="r", digest="0" * 64)
    assert await hosts[0]._parts.store.tables.read("SELECT count(*) FROM upload") == [(0,)]
    assert not list(place.directory.glob("*/uploads/*.pack"))
    if place.database is not None:
        assert place.database.execute("SELECT count(*) FROM blob") == [(0,)]


@pytest.mark.parametrize("place", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
async def test_run_of_an_upload_that_is_gone_fails_with_reason(
    place: Place, hosts: list[Service], repository: Path, head: str
) -> None:
    """A host that has no copy of a tree which was lost ends the run with what is wrong."""
    assert place.database is not None
    upload = await send(hosts[0], repository, head)
    (row,) = await hosts[0].submit(RunRequest(upload=upload.id))
    place.database.execute("DELETE FROM blob")
    report = await hosts[1].conduct(row.id)
    assert report.run.status is Status.FAILED
    assert "not kept any more" in str(report)
