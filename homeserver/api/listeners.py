"""Sockets: where the node listens, for whom, and with which certificate."""

from __future__ import annotations

import asyncio
import resource
import ssl
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_network
from typing import cast

import structlog
from aiohttp import web

from homeserver.api.dispatch import Dispatcher, Measure, error_response
from homeserver.api.router import Route, Router
from homeserver.api.routes import routes_for
from homeserver.api.services import Services
from homeserver.config.node import LimitsConfig, ListenerConfig
from homeserver.errors import Unknown

log = structlog.get_logger()

KEEPALIVE_S = 75.0
HEADER_BYTES_MAX = 16 * 1024
BACKLOG = 1024
DRAIN_S = 10.0  # for requests in flight when the node stops

FILES_BESIDES_CONNECTIONS = 256
REFUSAL_S = 2.0  # that somebody refused may take to ask anything
_TOO_MANY = b'{"errcode":"M_UNKNOWN","error":"The server has too many connections: try again later"}'
TOO_MANY_CONNECTIONS = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    b"Access-Control-Allow-Origin: *\r\nRetry-After: 10\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_TOO_MANY), _TOO_MANY)
)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Connection(web.RequestHandler):
    """aiohttp's connection, but for what it says of requests that it cannot parse.

    Inherited, since aiohttp offers no other way: its own answer is plain text, and it logs a traceback
    for whatever a stranger sends.
    """

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        log.info("request refused by the parser", status=status, cause=type(exc).__name__)
        response = error_response(Unknown("This is not a valid HTTP request"), status=max(status, 400))
        response.force_close()
        return response


class Server(web.Server):
    """aiohttp's server with our `Connection`."""

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Refusal(asyncio.Protocol):
    """Answers whoever connects while there are too many connections, whatever they ask, and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own are not registered as such
        self._timer = asyncio.get_running_loop().call_later(REFUSAL_S, transport.close)

    def data_received(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(TOO_MANY_CONNECTIONS)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()


class Listeners:
    """All listeners of a node."""

    def __init__(self, services: Services, limits: LimitsConfig, measure: Measure) -> None:
        self._services = services
        self._limits = limits
        self._measure = measure
        self._runners: list[web.ServerRunner] = []
        self._servers: list[Server] = []
        self._sockets: list[asyncio.Server] = []
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self, configs: Sequence[ListenerConfig]) -> None:
        """Listen on all of them. Raises OSError where an address cannot be had."""
        _allow_open_files(self._limits.max_connections + FILES_BESIDES_CONNECTIONS)
        for config in configs:
            await self._start(config, routes_for(config.purposes))

    async def _start(self, config: ListenerConfig, routes: Sequence[Route]) -> None:
        dispatcher = Dispatcher(
            Router(routes),
            self._services,
            body_max_bytes=self._limits.max_request_body_bytes,
            trusted_proxies=[ip_network(network) for network in config.trusted_proxies],
            measure=self._measure,
        )
        server = Server(
            self._handler(dispatcher),
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
        )
        runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        self._servers.append(server)

        def accept() -> asyncio.Protocol:
            return server() if self._connections < self._limits.max_connections else Refusal()

        listening = await asyncio.get_running_loop().create_server(
            accept, config.address, config.port, backlog=BACKLOG, ssl=_tls(config)
        )
        self._sockets.append(listening)
        port = listening.sockets[0].getsockname()[1]
        log.info("listening", address=config.address, port=port, purposes=list(config.purposes))

    @property
    def _connections(self) -> int:
        return sum(len(server.connections) for server in self._servers)

    async def stop(self) -> None:
        """Take no more connections, and answer what is in flight: waiting syncs should have been woken."""
        for listening in self._sockets:
            listening.close()
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._idle.wait()
        except TimeoutError:
            log.warning("requests cut off while stopping", requests=self._requests)
        for runner in self._runners:
            await runner.cleanup()

    def _handler(self, dispatcher: Dispatcher) -> Handler:
        async def handle(raw: web.BaseRequest) -> web.StreamResponse:
            self._requests += 1
            self._idle.clear()
            try:
                return await dispatcher.handle(raw)
            finally:
                self._requests -= 1
                if not self._requests:
                    self._idle.set()

        return handle


def _allow_open_files(wanted: int) -> None:
    """Raise the process's limit of open files, of which each connection is one, as far as need be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("fewer open files are allowed than limits.max_connections needs", allowed=allowed)


def _tls(config: ListenerConfig) -> ssl.SSLContext | None:
    if config.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config.tls_certificate, config.tls_key)
    return context
