"""Tells when a shim is over, at once and without polling: a pidfd becomes readable when its process ends."""

from __future__ import annotations

import asyncio
import os

from stretto.drivers.process.host import open_marked, reap


class Watch:
    """One shim, of this orchestrator or of one before it.

    `over` is done when the shim is; its result is the status if the shim was our child, None if not. Await it shielded.
    """

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._loop = asyncio.get_running_loop()
        self._pidfd: int | None = pidfd
        self.over: asyncio.Future[int | None] = self._loop.create_future()
        self._loop.add_reader(pidfd, self._end)

    @classmethod
    def child(cls, pid: int) -> Watch:
        """Watch a child of ours, which therefore can't have been replaced by another process. OSError."""
        return cls(pid, os.pidfd_open(pid))

    @classmethod
    def adopt(cls, key: str, pid: int) -> Watch | None:
        """Watch the shim of the attempt `key` that was started before; None where it is gone."""
        pidfd = open_marked(key, pid)
        return None if pidfd is None else cls(pid, pidfd)

    @property
    def is_over(self) -> bool:
        """Whether the shim has ended."""
        return self.over.done()

    def close(self) -> None:
        """Watch no longer; the shim goes on."""
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _end(self) -> None:
        if self._pidfd is not None:
            status = reap(self._pidfd)
            self.close()
            if not self.over.done():
                self.over.set_result(status)
