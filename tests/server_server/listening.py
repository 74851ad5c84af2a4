"""An HTTPS server of the tests, while a block runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from tests.server_server.certificates import Certificate

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def listening(answer: Answer, port: int, certificate: Certificate) -> AsyncIterator[None]:
    """Listen on a port of this machine."""
    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=certificate.tls()).start()
        yield
    finally:
        await runner.cleanup()
