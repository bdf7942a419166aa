"""Where the engine is."""

from __future__ import annotations

from pathlib import Path

import pytest

from stretto.core.errors import SettingsError
from stretto.drivers.docker.endpoint import SshEndpoint, TcpEndpoint, UnixEndpoint, resolve


def test_setting_goes_before_the_environment() -> None:
    """The setting wins over DOCKER_HOST, which wins over the default."""
    environ = {"DOCKER_HOST": "unix:///run/env.sock"}
    assert resolve("unix:///run/own.sock", environ) == UnixEndpoint("unix:///run/own.sock", "/run/own.sock")
    assert resolve(None, environ) == UnixEndpoint("unix:///run/env.sock", "/run/env.sock")
    assert isinstance(resolve(None, {}), UnixEndpoint)


def test_tcp_uses_tls_when_asked() -> None:
    """DOCKER_TLS_VERIFY means TLS, with the certificates of DOCKER_CERT_PATH, and another default port."""
    assert resolve("tcp://build:99", {}) == TcpEndpoint("tcp://build:99", "build", 99)
    assert resolve("tcp://build", {}) == TcpEndpoint("tcp://build", "build", 2375)
    environ = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}
    assert resolve("tcp://build", environ) == TcpEndpoint("tcp://build", "build", 2376, Path("/certs"))


def test_ssh_runs_the_far_end() -> None:
    """User, port and host become arguments of ssh, after which no more options are read."""
    endpoint = resolve("ssh://me@build:2222", {})
    assert isinstance(endpoint, SshEndpoint)
    assert endpoint.arguments == ("-T", "-o", "BatchMode=yes", "-l", "me", "-p", "2222", "--", "build")


@pytest.mark.parametrize("host", ["http://x", "unix://", "tcp://:1", "ssh://-oProxyCommand=x", "tcp://x:port", "junk"])
def test_bad_address_is_refused(host: str) -> None:
    """What is no address of an engine is a settings error that names it."""
    with pytest.raises(SettingsError, match="Docker host"):
        resolve(host, {})
