"""The way to a server, which can be cut: a relay of TCP that the tests own. TLS passes through unread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

CHUNK_BYTES = 64 * 1024


@dataclass(slots=True)
class Link:
    """Whoever connects to ``port`` reaches ``behind``, both on loopback, until it is cut."""

    port: int
    behind: int
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Link]:
        """Relay while the block runs."""
        await self.mend()
        try:
            yield self
        finally:
            await self.cut()

    async def mend(self) -> None:
        """Take connections, again."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """Break all connections, and take no more."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await server.wait_closed()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._kept(writer):
            try:
                from_server, to_server = await asyncio.open_connection("127.0.0.1", self.behind)
            except OSError:
                return
            with self._kept(to_server):
                await asyncio.gather(_pass_on(reader, to_server), _pass_on(from_server, writer))

    @contextmanager
    def _kept(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        """``writer`` is broken by `cut` while the block runs, and closed after it."""
        self._writers.add(writer)
        try:
            if self._server is None:  # cut while the connection was made
                writer.transport.abort()
            yield
        finally:
            self._writers.discard(writer)
            writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side closes; then the other one is closed too."""
    with suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
