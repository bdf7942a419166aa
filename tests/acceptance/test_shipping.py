"""What a server is shipped as: the image, compose.yaml, the systemd units, the manifests for Kubernetes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import kubernetes_validate
import pytest
import yaml

from scripts import image
from tests.support.images import engine_call, engine_socket, import_image
from tests.support.repository import make_repository
from tests.support.services import find_docker

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGE = "stretto-test:shipped"
SHELL = "stretto-test:busybox"
BUILD_FILES = ("Dockerfile", "pyproject.toml", "uv.lock", "README.md", "LICENSE", "src")
PASSWORDS = {"POSTGRES_PASSWORD": "one", "RABBITMQ_PASSWORD": "two"}


def compose_config(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Let docker-compose read the file with these variables and no others that it knows."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTGRES_", "RABBITMQ_"))}
    command = ["docker-compose", "--file", str(ROOT / "compose.yaml"), "config"]
    return subprocess.run(
        command, env=kept | variables, capture_output=True, text=True, timeout=60, check=False, cwd="/"
    )


@pytest.mark.compose
def test_compose_file_is_valid() -> None:
    """docker-compose takes the file; the conductor's state has one path, and nothing but the API is offered outside."""
    done = compose_config(PASSWORDS | {"STRETTO_HOME": "/srv/state"})
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert set(services) == {"postgres", "rabbitmq", "migrate", "api", "conductor"}
    assert "/srv/state:/srv/state:rw" in services["conductor"]["volumes"]
    assert [name for name, service in services.items() if service.get("ports")] == ["api"]
    assert services["api"]["environment"]["STRETTO_DATABASE"] == "postgresql://stretto:one@postgres:5432/stretto"


@pytest.mark.compose
@pytest.mark.parametrize("missing", sorted(PASSWORDS))
def test_compose_file_has_no_default_password(missing: str) -> None:
    """A password that nobody chose is asked for instead of being known to everybody."""
    done = compose_config({name: value for name, value in PASSWORDS.items() if name != missing})
    assert done.returncode != 0
    assert missing in done.stderr


def manifests() -> list[dict[str, Any]]:
    """Return the objects of the manifest."""
    return list(yaml.safe_load_all((ROOT / "deploy/kubernetes/stretto.yaml").read_text()))


@pytest.mark.parametrize("manifest", manifests(), ids=lambda it: f"{it['kind']}-{it['metadata']['name']}")
def test_manifest_is_what_kubernetes_takes(manifest: dict[str, Any]) -> None:
    """Each object fits the schema of its kind, unknown fields refused."""
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_manifest_containers_are_restricted() -> None:
    """No container may gain rights, write its own files, or speak to the cluster; all have limits."""
    pods = [it["spec"]["template"]["spec"] for it in manifests() if "template" in it.get("spec", {})]
    assert len(pods) == 3
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
            assert container["resources"]["limits"]["memory"]


@pytest.mark.systemd
def test_systemd_units_are_valid(tmp_path: Path) -> None:
    """systemd finds nothing to say of the units, once the program that they name is there."""
    units = sorted((ROOT / "deploy/systemd").glob("*.service"))
    assert [unit.stem for unit in units] == ["stretto-api", "stretto-conductor", "stretto-upgrade"]
    for unit in units:
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace("/usr/bin/stretto", "/bin/true"))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copy],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), unit.name


@pytest.fixture(scope="module")
def shipped() -> Iterator[str]:
    """The image as the Dockerfile makes it, on a base that is made of Debian packages."""
    address = find_docker()
    assert address is not None
    base = image.make("base", address)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in BUILD_FILES:
            archive.add(ROOT / name, name, filter=lambda it: None if "__pycache__" in it.name else it)
    query = urlencode({"t": IMAGE, "networkmode": "host", "rm": 1, "buildargs": json.dumps({"BASE": base})})
    status, answer = engine_call("POST", f"/build?{query}", buffer.getvalue())
    assert status == 200, answer
    assert engine_call("GET", f"/images/{IMAGE}/json")[0] == 200, answer
    yield IMAGE
    engine_call("DELETE", f"/images/{IMAGE}?force=true")


def run_shipped(command: list[str], binds: list[str], variables: dict[str, str], directory: str) -> tuple[int, str]:
    """Run the image once and return its exit code and what it printed on stdout."""
    settings = {
        "Image": IMAGE,
        "Cmd": command,
        "WorkingDir": directory,
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "HostConfig": {"Binds": binds, "LogConfig": {"Type": "json-file"}},
        "Tty": True,
    }
    status, made = engine_call("POST", "/containers/create", settings)
    assert status == 201, made
    try:
        assert engine_call("POST", f"/containers/{made['Id']}/start")[0] == 204
        code = engine_call("POST", f"/containers/{made['Id']}/wait")[1]["StatusCode"]
        _, output = engine_call("GET", f"/containers/{made['Id']}/logs?stdout=1")
        return code, output.decode()  # bytes, as it is no JSON
    finally:
        engine_call("DELETE", f"/containers/{made['Id']}?force=true")


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_image_built_from_debian_packages_runs_a_pipeline(shipped: str, tmp_path: Path) -> None:
    """The image is built as the Dockerfile says, and a run in it starts its jobs on the host's engine beside it."""
    import_image(SHELL)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as shared:  # the same path on both sides
        repository = Path(shared, "repository")
        make_repository(
            repository,
            {
                "pipeline.yml": f"name: shipped\nstages: [one]\ndefault: {{image: '{SHELL}'}}\n"
                "jobs:\n  hello:\n    stage: one\n    script: [cat greeting, echo left >leave.txt]\n"
                "    artifacts: {paths: [leave.txt]}\n",
                "greeting": "hello from the tree\n",
            },
        )
        home = Path(shared, "home")
        binds = [f"{shared}:{shared}", f"{engine_socket()}:/var/run/docker.sock"]
        variables = {"STRETTO_HOME": str(home)}
        code, told = run_shipped(["run", "--color", "never"], binds, variables, str(repository))
        assert code == 0, told
        code, output = run_shipped(["logs", "1", "hello"], binds, variables, str(repository))
        assert (code, output.replace("\r\n", "\n")) == (0, "hello from the tree\n")
