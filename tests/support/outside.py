"""The world outside of a run: where side effects are counted, and what an installation left behind."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from pathlib import Path

from tests.support.images import engine_call


class Listener:
    """A server on loopback that appends each line it is sent to a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, self.file.open("ab") as file:
                connection.settimeout(10)
                while data := connection.recv(4096):
                    file.write(data)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def effects(self) -> Counter[str]:
        """Return the lines that came, with how often each did."""
        time.sleep(0.2)  # the last line may still be on its way to the file
        return Counter(self.file.read_text().splitlines())

    def take_effects(self) -> Counter[str]:
        """Return the lines that came and forget them."""
        lines = self.effects()
        self.file.write_text("")
        return lines


def leftovers(home: Path) -> list[str]:
    """Return what is left of this installation: containers, volumes, trees, mounts."""
    label = f"dev.stretto.installation={(home / 'installation').read_text().strip()}"
    query = f'filters={{"label":["{label}"]}}'
    containers = engine_call("GET", f"/containers/json?all=1&{query}")[1]
    volumes = engine_call("GET", f"/volumes?{query}")[1]["Volumes"] or []
    attempts = list((home / "attempts").iterdir()) if (home / "attempts").exists() else []
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(home) in line]
    return [*(str(one["Names"]) for one in containers), *(one["Name"] for one in volumes), *map(str, attempts), *mounts]
