"""A way to the server that can be cut: between what was asked and what was answered, or for good."""

from __future__ import annotations

import asyncio
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Passes bytes between clients and the database at `url`; its own URL is `url` after entering."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._links: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self.cut_answer_to = b""
        """When a client sent this, the server gets it and the client's connection is cut before the answer; once."""
        self.cuts = 0
        self.refuses_after_cut = False
        self.refuses = False
        """Whether new connections are cut at once."""
        self.refused = asyncio.Event()
        """Set when one was."""

    @property
    def url(self) -> str:
        """The URL of the database by way of the proxy."""
        port = self._server.sockets[0].getsockname()[1]
        place = self._target.netloc.rpartition("@")[0] + f"@127.0.0.1:{port}"
        return urlunsplit(self._target._replace(netloc=place))

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._links, return_exceptions=True)

    def cut(self) -> None:
        """Cut all connections that there are."""
        for link in self._links:
            link.cancel()

    async def _link(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            if self.refuses:
                self.refused.set()
            else:
                server, to_server = await asyncio.open_connection(self._target.hostname, self._target.port)
                try:
                    async with asyncio.TaskGroup() as both:
                        answers = both.create_task(self._answer(server, to_client))
                        both.create_task(self._ask(client, to_server, answers))
                finally:
                    to_server.close()
        except (asyncio.CancelledError, ConnectionError, BaseExceptionGroup):
            pass  # cut; whoever is at the end notices
        finally:
            to_client.transport.abort()
            self._links.discard(task)

    async def _ask(
        self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter, answers: asyncio.Task[None]
    ) -> None:
        while data := await client.read(1 << 16):
            cut = self.cut_answer_to and self.cut_answer_to in data
            if cut:
                self.cut_answer_to, self.cuts = b"", self.cuts + 1
                self.refuses = self.refuses_after_cut
                answers.cancel()
            to_server.write(data)
            await to_server.drain()
            if cut:
                await asyncio.sleep(0.1)  # the server is to be done before we are gone
                raise ConnectionResetError
        raise ConnectionResetError

    async def _answer(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        while data := await server.read(1 << 16):
            to_client.write(data)
            await to_client.drain()
        raise ConnectionResetError
