"""A RabbitMQ node of our own, with an epmd (the port mapper of Erlang) of its own, as the machine's may be another's."""

from __future__ import annotations

import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from scripts.service.process import ADMIN_PATH, KILL_TIMEOUT_S, read_pid, send, wait_gone
from scripts.service.server import CALL_TIMEOUT_S, Server

USER: Final = "stretto"
NODE: Final = "stretto@localhost"
GREETING: Final = b"AMQP\0\0\x09\x01"
"""What a client of AMQP 0-9-1 says first (specification, 4.2.2)."""
METHOD_FRAME: Final = b"\x01"


class RabbitMQ(Server):
    """One node; ports are AMQP's, the distribution's and epmd's."""

    name = "rabbitmq"
    variable = "STRETTO_TEST_RABBITMQ"
    program = "rabbitmq-server"
    packages: tuple[str, ...] = ("rabbitmq-server",)
    users = ("rabbitmq",)
    port_count = 3
    farewell = signal.SIGTERM

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.epmd_pid_file = self.home / "epmd.pid"

    def path(self) -> str:
        """Return where the server's own script is: the one in /usr/sbin takes no user but its own and root."""
        return f"/usr/lib/rabbitmq/bin:{ADMIN_PATH}"

    def prepare(self, password: str) -> None:
        """Write the configuration, in which one user may do all."""
        settings = (
            f"default_user = {USER}",
            f"default_pass = {password}",
            "loopback_users.guest = true",
            "disk_free_limit.absolute = 64MB",
        )
        self.write_secret(self.data / "rabbitmq.conf", "".join(f"{line}\n" for line in settings))
        self.write_secret(self.data / "plugins", "[].\n")

    def command(self, ports: Sequence[int]) -> list[str]:
        """Return the command of the server; Erlang puts HOME, which is `data`, on its command line."""
        return ["rabbitmq-server"]

    def environment(self, ports: Sequence[int]) -> dict[str, str]:
        """Return the environment that leads to our files and ports, and away from /etc/rabbitmq."""
        amqp, distribution, epmd = map(str, ports)
        return {
            "PATH": self.path(),
            "HOME": str(self.data),
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": epmd,
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": amqp,
            "RABBITMQ_DIST_PORT": distribution,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": f"{self.data}/none",
            "RABBITMQ_CONFIG_FILE": f"{self.data}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{self.data}/none.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{self.data}/plugins",
            "RABBITMQ_MNESIA_BASE": f"{self.data}/mnesia",
            "RABBITMQ_LOG_BASE": f"{self.data}/log",
            "RABBITMQ_LOGS": "-",
            "RUNNING_UNDER_SYSTEMD": "1",  # the script becomes the server, instead of watching over it
        }

    def address(self, password: str, ports: Sequence[int]) -> str:
        """Return the URL of the virtual host `/`."""
        return f"amqp://{USER}:{password}@127.0.0.1:{ports[0]}/"

    def answers(self, address: str) -> bool:
        """Return whether the server offers to begin."""
        return greets(address)

    def run(self) -> dict[str, str]:
        """Start the port mapper, then the server: it would start one that we know nothing of."""
        if self.ports_file.exists() and self.find_epmd() is None:
            ports = self.ports()
            process = self.spawn(["epmd", "-port", str(ports[2])], self.environment(ports))
            self.epmd_pid_file.write_text(f"{process.pid}\n")
        return super().run()

    def halt(self, *, kill: bool = False) -> None:
        """End the server, then its port mapper."""
        super().halt(kill=kill)
        if (pid := self.find_epmd()) is not None:
            send(pid, signal.SIGKILL)
            wait_gone(pid, KILL_TIMEOUT_S)
        self.epmd_pid_file.unlink(missing_ok=True)
        self.forget_children()

    def find_epmd(self) -> int | None:
        """Return the pid of our port mapper while it runs."""
        return read_pid(self.epmd_pid_file, f"-port\0{self.ports()[2]}\0") if self.ports_file.exists() else None


def greets(address: str) -> bool:
    """Return whether the server at the URL offers to begin."""
    url = urlsplit(address)
    try:
        with socket.create_connection((url.hostname, url.port or 5672), CALL_TIMEOUT_S) as connection:
            connection.sendall(GREETING)
            return connection.recv(1) == METHOD_FRAME
    except OSError:
        return False
