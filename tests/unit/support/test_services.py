"""The markers of services: skipped where the service is missing, failed where it is required."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

INNER = """
import pytest

@pytest.mark.docker
def test_marked():
    pass

@pytest.mark.docker
def test_gives_up():
    pytest.skip("no reason")

def test_unmarked():
    pytest.skip("another reason")
"""


def run_inner(tmp_path: Path, *, require: str, docker_host: str) -> str:
    """Run pytest on INNER with the plugin and return all it printed."""
    (tmp_path / "test_inner.py").write_text(INNER)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  docker: needs an engine\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STRETTO_REQUIRE": require, "DOCKER_HOST": docker_host}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-ra",
        "-p",
        "tests.support.services",
        "-p",
        "no:cacheprovider",
        str(tmp_path),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def test_missing_service_skips_the_test(tmp_path: Path) -> None:
    """Without an engine a marked test is skipped, with a hint what to do."""
    out = run_inner(tmp_path, require="", docker_host=f"unix://{tmp_path}/none.sock")
    assert "3 skipped" in out
    assert "scripts/services up docker" in out


def test_required_service_fails_the_test(tmp_path: Path) -> None:
    """With STRETTO_REQUIRE=docker no marked test passes by being skipped; an unmarked one may still be skipped."""
    out = run_inner(tmp_path, require="docker", docker_host=f"unix://{tmp_path}/none.sock")
    assert "1 skipped, 2 errors" in out
    assert "STRETTO_REQUIRE=docker, but the test was skipped" in out


def test_unknown_service_is_refused(tmp_path: Path) -> None:
    """A misspelt STRETTO_REQUIRE does not silently require nothing."""
    assert "STRETTO_REQUIRE names dokcer" in run_inner(tmp_path, require="dokcer", docker_host="")


@pytest.mark.docker
def test_present_service_runs_the_test(tmp_path: Path) -> None:
    """With an engine the marked test runs; one that gives up by itself is still a failure where docker is required."""
    out = run_inner(tmp_path, require="docker", docker_host=os.environ.get("DOCKER_HOST", "unix:///run/docker.sock"))
    assert "1 failed, 1 passed, 1 skipped" in out
