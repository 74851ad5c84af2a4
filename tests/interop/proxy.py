"""A reverse proxy between software from outside and the node, for the sake of `tests.conformance`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
from aiohttp import web
from yarl import URL

from tests.api.client import http_session
from tests.conformance import Observer, SpecificationViolation

_NOT_PASSED = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})


@asynccontextmanager
async def observing_proxy(upstream: str, exchanges: Observer) -> AsyncIterator[str]:
    """The URL of a proxy that passes everything on to ``upstream`` and every response to ``exchanges``.

    What violates the specification reaches the client nevertheless, and fails the run as a whole.
    """
    async with http_session() as http:

        async def forward(request: web.BaseRequest) -> web.StreamResponse:
            return await _forward(http, upstream, request, exchanges)

        runner = web.ServerRunner(web.Server(forward), shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            yield f"http://127.0.0.1:{port}"
        finally:
            await runner.cleanup()


async def _forward(
    http: aiohttp.ClientSession, upstream: str, request: web.BaseRequest, exchanges: Observer
) -> web.Response:
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED}
    headers["Accept-Encoding"] = "identity"
    url = URL(upstream + request.raw_path, encoded=True)
    body = await request.read()
    async with http.request(
        request.method, url, headers=headers, data=body or None, allow_redirects=False
    ) as response:
        received = await response.read()
        if request.method not in ("HEAD", "OPTIONS"):
            with suppress(SpecificationViolation):  # remembered by `exchanges`
                exchanges.observe(
                    request.method,
                    request.raw_path,
                    response.status,
                    response.headers.get("Content-Type", ""),
                    received,
                )
        passed = {name: value for name, value in response.headers.items() if name.lower() not in _NOT_PASSED}
        return web.Response(status=response.status, body=received, headers=passed)
