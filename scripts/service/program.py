"""Programs that tests call."""

from __future__ import annotations

import shutil

from scripts.service.process import ADMIN_PATH, install


class Program:
    """A program that tests need, and no server: it is installed, and stays."""

    def __init__(self, name: str, package: str) -> None:
        self.name = name
        self.packages: tuple[str, ...] = (package,)

    def find(self, *, own: bool = False) -> dict[str, str] | None:
        return {} if shutil.which(self.name, path=ADMIN_PATH) else None

    def start(self) -> dict[str, str]:
        install(self.name, self.packages)
        return {}

    def stop(self) -> None:
        """Nothing runs."""
