"""From an HTTP request to a handler and back: routing, authentication, limits, errors, metrics.

One function serves every request, below aiohttp's own application layer: measured on this project's
machine, a request without work costs 100 µs of CPU in aiohttp, and its router and middlewares would
add as much again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Protocol

import structlog
from aiohttp import web

from federation.request_auth import REENCODED_BYTES_MAX
from homeserver.api.request import SERVER_JSON_DEPTH_MAX, Request, parse_json
from homeserver.api.response import CORS_HEADERS, json_response
from homeserver.api.router import Auth, Route, Router
from homeserver.api.services import Services
from homeserver.commit_log.committer import CONNECTION_LOST
from homeserver.errors import (
    Forbidden,
    GuestAccessForbidden,
    LimitExceeded,
    MatrixError,
    MethodNotAllowed,
    MissingToken,
    Unavailable,
    Unrecognized,
    UserSuspended,
)
from homeserver.logging import bind_request_id
from homeserver.requester import Requester

log = structlog.get_logger()
SLOW_SECONDS = 10.0


class Measure(Protocol):
    """Counts one answered request: the route's path, method, status and seconds."""

    def __call__(self, path: str, method: str, status: int, seconds: float) -> None: ...


class Dispatcher:
    """Answers the requests of one listener."""

    def __init__(
        self,
        router: Router,
        services: Services,
        *,
        body_max_bytes: int,
        trusted_proxies: Sequence[IPv4Network | IPv6Network],
        measure: Measure,
    ) -> None:
        self._router = router
        self._services = services
        self._body_max_bytes = body_max_bytes
        self._trusted_proxies = trusted_proxies
        self._measure = measure

    async def handle(self, raw: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; whatever goes wrong, the client gets an answer in the standard form."""
        started = time.perf_counter()
        path, _, query = raw.raw_path.partition("?")
        method = raw.method
        route: Route | None = None
        response: web.StreamResponse
        request_id = bind_request_id()
        try:
            if method == "OPTIONS":
                response = web.Response(status=204, headers=CORS_HEADERS)
            else:
                route, response = await self._answer(raw, method, path, query)
        except MatrixError as error:
            response = error_response(error)
        except asyncio.CancelledError:
            raise
        except Exception as cause:
            response = _failure(cause, raw, route, request_id)
        seconds = time.perf_counter() - started
        self._measure(route.path if route else "", method, response.status, seconds)
        return response

    async def _answer(
        self, raw: web.BaseRequest, method: str, path: str, query: str
    ) -> tuple[Route | None, web.StreamResponse]:
        if path.startswith("/_matrix/client/r0/"):  # the name of v3 before Matrix 1.1
            path = "/_matrix/client/v3/" + path[19:]
        route, params, path_exists = self._router.find("GET" if method == "HEAD" else method, path)
        if route is None:
            if path_exists:
                raise MethodNotAllowed(f"This endpoint does not take {method}")
            raise Unrecognized("There is no such endpoint on this server")
        address = self._address(raw)
        request = Request(
            raw, params, query, self._services, route.body_max_bytes or self._body_max_bytes, address
        )
        caller = address
        if route.auth is Auth.FEDERATION:
            caller = await self._authenticate_server(raw, request)
        elif route.auth is not Auth.NONE:
            requester = await self._authenticate(raw, request, route)
            caller = requester.user_id if requester else address
        if route.limit is not None:
            self._services.rate_limits.check(route.limit, caller)
        return route, await route.handler(request)

    async def _authenticate_server(self, raw: web.BaseRequest, request: Request) -> str:
        """The server that signed the request, body included."""
        body = await request.body()
        # What is large is looked into only when it is known who has sent it.
        large = len(body) > REENCODED_BYTES_MAX
        content = parse_json(body, SERVER_JSON_DEPTH_MAX) if body and not large else {}
        headers = raw.headers.getall("Authorization", [])
        origin = await self._services.federation_authenticator.authenticate(
            headers, raw.method, raw.raw_path, body or None
        )
        if large:
            content = parse_json(body, SERVER_JSON_DEPTH_MAX)
        request.sent_by(origin, content)
        return origin

    async def _authenticate(self, raw: web.BaseRequest, request: Request, route: Route) -> Requester | None:
        token = _access_token(raw, request)
        if token is None:
            if route.auth is Auth.OPTIONAL:
                return None
            raise MissingToken("Send an access token in the Authorization header: Bearer <token>")
        authenticator = self._services.authenticator
        requester = authenticator.cached(token) or await authenticator.authenticate(
            token, request.address, raw.headers.get("User-Agent", ""), while_locked=route.while_locked
        )
        if route.auth is Auth.USER and requester.is_guest:
            raise GuestAccessForbidden("Guests may not do this: register an account")
        if route.auth is Auth.ADMIN and not requester.is_admin:
            raise Forbidden("Only administrators of this server may do this")
        if requester.is_suspended and not route.while_suspended:
            raise UserSuspended("Your account is suspended: you may read and leave rooms only")
        request.authenticated_as(requester)
        return requester

    def _address(self, raw: web.BaseRequest) -> str:
        """The client's address: the peer's, or what a trusted proxy says of it."""
        address = raw.remote or ""
        if not self._trusted_proxies:
            return address
        # A proxy may add a line of its own below one that the client has made up.
        lines = raw.headers.getall("X-Forwarded-For", ())
        hops = [hop.strip() for line in lines for hop in line.split(",") if hop.strip()]
        while hops and self._is_trusted(address):
            address = hops.pop()
        return address

    def _is_trusted(self, address: str) -> bool:
        if address == "":  # a Unix socket's peer
            return True
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted_proxies)


def _access_token(raw: web.BaseRequest, request: Request) -> str | None:
    """The access token, from the header or (deprecated, but still in use) the query."""
    header = raw.headers.get("Authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise MissingToken("The Authorization header must read: Bearer <token>")
        return token.strip()
    return request.query("access_token")


def _failure(cause: Exception, raw: web.BaseRequest, route: Route | None, request_id: str) -> web.Response:
    """The answer where something failed that is no refusal."""
    path = route.path if route else None
    # Of asyncpg's interface errors, the ValueErrors are of values that it cannot send: a fault of ours.
    if isinstance(cause, CONNECTION_LOST) and not isinstance(cause, ValueError):
        # with the database; or with the client, who will not see the answer
        client_gone = raw.transport is None or raw.transport.is_closing()
        (log.debug if client_gone else log.warning)("connection lost", route=path, cause=repr(cause))
        return error_response(Unavailable("The database is away for a moment: try again"))
    log.error("request failed", method=raw.method, route=path, exc_info=cause)
    body = {"errcode": "M_UNKNOWN", "error": f"Internal error, in the server's log as request {request_id}"}
    return json_response(body, status=500)


def error_response(error: MatrixError, status: int | None = None) -> web.Response:
    """An error in the standard form, with its own status unless another is given."""
    response = json_response(error.body(), status=status or error.status)
    if isinstance(error, LimitExceeded):
        response.headers["Retry-After"] = str(-(-error.retry_after_ms // 1000))
    return response
