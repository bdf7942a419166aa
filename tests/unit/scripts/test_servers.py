"""PostgreSQL and RabbitMQ of our own: made, killed, back on the same data, gone; and what is decided about them."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from scripts import services
from scripts.service import postgres, process, rabbitmq
from scripts.service.postgres import Postgres
from scripts.service.rabbitmq import RabbitMQ


@pytest.fixture
def state() -> Iterator[Path]:
    """A folder for services that any user can pass through, as a checkout usually is; pytest's are closed to others."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def test_data_root_avoids_folders_that_the_services_user_cannot_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, data goes elsewhere, on disk, where a parent is closed; as an ordinary user it stays: the service is theirs."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as closed:  # made with mode 700
        wanted = Path(closed, "data")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert process.data_root(wanted).parent == Path("/var/lib")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert process.data_root(wanted) == wanted
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        Path(closed).chmod(0o711)
        assert process.data_root(wanted) == wanted


def test_free_ports_are_free_and_differ() -> None:
    """Each port can be listened on, and none is given twice."""
    ports = process.free_ports(3)
    assert len(set(ports)) == 3
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_no_daemons_forbids_starting_and_leaves_nothing(tmp_path: Path) -> None:
    """While packages are installed a policy forbids starting their daemons; one that was there is left as it is."""
    policy = tmp_path / "policy-rc.d"
    with process.no_daemons(policy):
        assert os.waitstatus_to_exitcode(os.system(str(policy))) == 101
    assert not policy.exists()
    policy.write_text("ours")
    with process.no_daemons(policy):
        assert policy.read_text() == "ours"
    assert policy.read_text() == "ours"


@pytest.mark.parametrize(
    ("greets", "answer"), [(postgres.greets, b"E\0\0\0\x08SFATAL"), (rabbitmq.greets, b"AMQP\0\0\x09\x01")]
)
def test_greets_takes_no_refusal_for_an_answer(greets, answer: bytes) -> None:
    """A server that is starting, or speaks another version, is not there yet; nor is one that refuses the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"scheme://user:secret@127.0.0.1:{server.getsockname()[1]}/db"
        client = os.fork()
        if client == 0:
            connection, _ = server.accept()
            connection.sendall(answer)
            os._exit(0)
        assert not greets(address)
        os.waitpid(client, 0)
    assert not greets(address)


def test_restart_refuses_what_has_no_data() -> None:
    """Only servers can be halted and restarted."""
    with pytest.raises(process.ServiceError, match="busybox has no data"):
        services.halt(["busybox"])


@pytest.mark.postgres
@pytest.mark.slow
def test_own_postgres_keeps_what_was_committed_and_leaves_nothing(state: Path) -> None:
    """What was committed is there after a kill and a restart, at the same address; then all is deleted."""
    server = Postgres(state)
    assert server.find(own=True) is None
    try:
        variables = server.start()
        assert server.find(own=True) == variables
        assert stat.S_IMODE(server.address_file.stat().st_mode) == 0o600
        with psycopg.connect(variables["STRETTO_TEST_POSTGRES"]) as connection:
            for name, value in {"fsync": "on", "synchronous_commit": "on", "max_connections": "200"}.items():
                assert connection.execute("SELECT current_setting(%s)", (name,)).fetchone() == (value,)
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        server.halt(kill=True)
        assert server.find(own=True) is None
        assert server.run() == server.run() == variables
        with psycopg.connect(variables["STRETTO_TEST_POSTGRES"], autocommit=True) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
            server.halt()
            with pytest.raises(psycopg.errors.AdminShutdown):  # halted in good order, though we are connected
                connection.execute("SELECT 1")
    finally:
        server.stop()
    server.stop()
    assert not server.data.exists()
    assert not server.home.exists()
    with pytest.raises(process.ServiceError, match="scripts/services up postgres"):
        server.run()


@pytest.mark.rabbitmq
@pytest.mark.slow
def test_own_rabbitmq_comes_back_and_leaves_nothing(state: Path) -> None:
    """The node answers at the same address after a restart; in the end it and its port mapper are gone, with all files."""
    server = RabbitMQ(state)
    try:
        variables = server.start()
        assert server.find(own=True) == variables
        pids = server.find_pid(), server.find_epmd()
        assert None not in pids
        server.halt()
        assert server.find(own=True) is None
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert server.run() == variables
    finally:
        server.stop()
    assert not server.data.exists()
    assert not server.home.exists()
