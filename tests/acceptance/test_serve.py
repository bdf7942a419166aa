"""`stretto serve` as a process: found by who is on the host, ended in good order, refused where it would be unsafe."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.background import Programs, programs, until
from tests.support.cli import run_cli
from tests.support.repository import make_repository

PIPELINE = """\
name: small
jobs:
  one:
    stage: test
    script: [echo hello, sleep 0]
"""


@pytest.fixture
def begun() -> Iterator[Programs]:
    """Programs that end with the test."""
    with programs() as made:
        yield made


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """What a server here is told by its environment."""
    return {"STRETTO_DRIVER": "process", "STRETTO_API_PORT": "0", "STRETTO_API_LOCAL_ROOT": str(tmp_path)}


def serve(
    begun: Programs, tmp_path: Path, variables: dict[str, str], *more: str
) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server and return it and its URL, when it answers."""
    program = begun.begin(["serve", *more], tmp_path, tmp_path / "home", variables=variables)
    assert program.stdout is not None
    url = program.stdout.readline().decode().strip()
    assert url, program.communicate()[1].decode()
    return program, url


def token_of(home: Path) -> str:
    """Return the token that the server of a home made for its host."""
    told = json.loads((home / "server.json").read_text())
    return str(told["token"])


def test_server_carries_a_run_out_and_leaves_no_token(
    begun: Programs, tmp_path: Path, variables: dict[str, str]
) -> None:
    """A server of one process is found through its home, runs what it is given, and takes its token with it."""
    make_repository(tmp_path / "repo", {"pipeline.yml": PIPELINE})
    program, url = serve(begun, tmp_path, variables, "--log-format", "json")
    path = tmp_path / "home" / "server.json"
    until(path.exists, "server.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["url"] == url
    token = token_of(tmp_path / "home")
    with httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        accepted = client.post("/api/v1/runs", json={"repository": str(tmp_path / "repo")})
        assert accepted.status_code == 202
        with client.stream(
            "GET", f"{accepted.headers['location']}/events", headers={"Accept": "text/event-stream"}
        ) as stream:
            assert any('"kind":"run_ended"' in line for line in stream.iter_lines())
        assert client.get(f"{accepted.headers['location']}/jobs/one/log").text == "hello\n"
    program.send_signal(signal.SIGTERM)
    _, err = program.communicate(timeout=30)
    assert program.returncode == 0, err.decode()
    assert not path.exists()
    records = [json.loads(line) for line in err.decode().splitlines()]
    requests = [record for record in records if record["message"] == "request"]
    assert requests[0]["http"]["response"]["status_code"] == 202
    assert requests[0]["url"]["path"] == "/api/v1/runs"
    assert requests[0]["http"]["request"]["id"] == accepted.headers["x-request-id"]
    assert token.rpartition("_")[2] not in err.decode()


def test_terminated_server_leaves_jobs_to_the_next(begun: Programs, tmp_path: Path, variables: dict[str, str]) -> None:
    """SIGTERM ends followers and the process within seconds, not the job; the next server carries the run to its end."""
    make_repository(tmp_path / "repo", {"pipeline.yml": PIPELINE.replace("sleep 0", "sleep 4")})
    first, url = serve(begun, tmp_path, variables)
    until((tmp_path / "home" / "server.json").exists, "server.json")
    headers = {"Authorization": f"Bearer {token_of(tmp_path / 'home')}"}
    lines: list[str] = []

    def follow() -> None:
        with httpx2.stream(
            "GET", f"{url}/api/v1/runs/1/events", headers=headers | {"Accept": "text/event-stream"}, timeout=60
        ) as stream:
            lines.extend(stream.iter_lines())

    with httpx2.Client(base_url=url, headers=headers) as client:
        client.post("/api/v1/runs", json={"repository": str(tmp_path / "repo")})
        follower = threading.Thread(target=follow)
        follower.start()
        until(lambda: client.get("/api/v1/runs/1").json()["status"] == "running", "start of the job")
        until(lambda: client.get("/api/v1/runs/1/jobs/one/log").text == "hello\n", "output of the job")
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=8)
    follower.join(10)
    assert first.returncode == 0
    assert lines
    assert "event: end" not in lines

    second, url = serve(begun, tmp_path, variables)
    until((tmp_path / "home" / "server.json").exists, "server.json")
    with httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {token_of(tmp_path / 'home')}"}) as client:
        until(lambda: client.get("/api/v1/runs/1").json()["status"] == "success", "end of the run")
        (attempt,) = client.get("/api/v1/runs/1/jobs/one").json()["attempts"]
        assert attempt["number"] == 1
        assert client.get("/api/v1/runs/1/jobs/one/log").text == "hello\n"
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=30)
    assert second.returncode == 0


def test_api_and_conductor_share_a_home(begun: Programs, tmp_path: Path, variables: dict[str, str]) -> None:
    """An API conducts nothing; a conductor beside it does, and with a port it says how it is and no more."""
    make_repository(tmp_path / "repo", {"pipeline.yml": PIPELINE})
    home = tmp_path / "home"
    _, url = serve(begun, tmp_path, variables, "--role", "api")
    made = run_cli(["token", "create", "ann", "--scope", "run"], tmp_path, home, variables=variables)
    headers = {"Authorization": f"Bearer {made.out.strip()}"}
    assert not (home / "server.json").exists()
    with httpx2.Client(base_url=url, headers=headers) as client:
        assert client.post("/api/v1/runs", json={"repository": str(tmp_path / "repo")}).json()["runs"][0]["by"] == "ann"
        assert client.get("/ready").status_code == 200
        _, other = serve(begun, tmp_path, variables, "--role", "conductor", "--port", "0")
        until(lambda: client.get("/api/v1/runs/1").json()["status"] == "success", "end of the run")
    assert httpx2.get(f"{other}/ready").status_code == 200
    assert httpx2.get(f"{other}/metrics", headers=headers).status_code == 200
    assert httpx2.get(f"{other}/api/v1/runs", headers=headers).status_code == 404


def test_revoked_token_is_refused_by_a_running_server(
    begun: Programs, tmp_path: Path, variables: dict[str, str]
) -> None:
    """What the command line revokes in the store is worthless at every server within seconds."""
    home = tmp_path / "home"
    _, url = serve(begun, tmp_path, variables, "--role", "api")
    token = run_cli(
        ["token", "create", "ann", "--expires-in", "2d", "--json"], tmp_path, home, variables=variables
    ).report
    headers = {"Authorization": f"Bearer {token['token']}"}
    assert httpx2.get(f"{url}/api/v1/runs", headers=headers).status_code == 200
    revoked = run_cli(["token", "revoke", token["id"]], tmp_path, home, variables=variables)
    until(lambda: httpx2.get(f"{url}/api/v1/runs", headers=headers).status_code == 401, "refusal", deadline_s=5)
    listed = run_cli(["token", "list"], tmp_path, home, variables=variables)
    assert (revoked.code, revoked.out) == (0, f"token {token['id']} is revoked\n")
    assert "revoked" in listed.out
    assert token["token"] not in listed.out
    assert run_cli(["token", "revoke", "0" * 12], tmp_path, home, variables=variables).code == 2


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--host", "0.0.0.0"], "without TLS"),
        (["--host", "no.such.host.invalid", "--insecure"], "can't listen"),
    ],
)
def test_server_is_not_started_where_it_must_not(
    tmp_path: Path, variables: dict[str, str], more: list[str], told: str
) -> None:
    """A server that all could listen to, or that can't listen, is refused with what to do about it."""
    done = run_cli(["serve", *more], tmp_path, tmp_path / "home", variables=variables, timeout_s=30)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert "hint: " in done.err


def test_port_that_is_taken_is_told(tmp_path: Path, variables: dict[str, str]) -> None:
    """Two can't listen on one port; the second one says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_cli(["serve", "--port", port], tmp_path, tmp_path / "home", variables=variables, timeout_s=30)
    assert done.code == 2
    assert f"can't listen on 127.0.0.1 port {port}" in done.err


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *kind, *subject, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return cert, key


def test_server_speaks_tls(
    begun: Programs, tmp_path: Path, variables: dict[str, str], certificate: tuple[Path, Path]
) -> None:
    """With certificate files the server speaks TLS, and nothing else."""
    cert, key = certificate
    tls = {"STRETTO_API_TLS_CERT": str(cert), "STRETTO_API_TLS_KEY": str(key)}
    _, url = serve(begun, tmp_path, variables | tls, "--role", "api")
    assert url.startswith("https://127.0.0.1:")

    context = ssl.create_default_context(cafile=cert)
    assert httpx2.get(f"{url}/health", verify=context).status_code == 200
    with pytest.raises(httpx2.HTTPError):
        httpx2.get(f"{url.replace('https', 'http')}/health")


def test_check_says_of_each_part_what_is_wrong(tmp_path: Path, variables: dict[str, str]) -> None:
    """`--check` tries all parts, tells which are good and what is wrong with the others, and starts nothing."""
    home = tmp_path / "home"
    good = run_cli(["serve", "--check", "--json"], tmp_path, home, variables=variables)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    broken = {
        "STRETTO_DRIVER": "docker",
        "STRETTO_DOCKER_HOST": f"unix://{tmp_path}/no.sock",
        "STRETTO_QUEUE": f"amqp://127.0.0.1:{port}/",
        "STRETTO_API_TLS_CERT": str(tmp_path / "no.pem"),
        "STRETTO_API_TLS_KEY": str(tmp_path / "no.pem"),
    }
    bad = run_cli(["serve", "--check", "--json"], tmp_path, home, variables=variables | broken)
    assert (good.code, good.report["ok"]) == (0, True)
    assert [it["name"] for it in good.report["checks"]] == ["home", "database", "git", "driver process", "listen"]
    assert (bad.code, bad.report["ok"]) == (1, False)
    wrong = {it["name"]: it["told"] for it in bad.report["checks"] if not it["ok"]}
    assert set(wrong) == {"queue", "driver docker", "listen"}
    assert str(tmp_path / "no.pem") in wrong["listen"]
    plain = run_cli(["serve", "--check"], tmp_path, home, variables=variables | broken)
    assert "BAD  queue" in plain.out
    assert "ok   git" in plain.out
