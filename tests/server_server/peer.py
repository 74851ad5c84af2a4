"""A server of the tests: it publishes keys over TLS, and sends signed requests, right and wrong ones."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

from federation.canonical import JsonObject, encode_legacy
from federation.keys import SigningKey
from federation.request_auth import authorization_header
from federation.server_keys import make_server_keys
from homeserver.clock import now_ms
from tests.conformance import Exchanges
from tests.server_server.certificates import Certificate
from tests.server_server.listening import listening

HOUR_MS = 3600 * 1000
IDENTITY_SERVICE = "/_matrix/identity/"  # an API of its own


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to a peer's request."""

    status: int
    json: Any

    @property
    def errcode(self) -> str:
        return str(self.json.get("errcode", ""))


@dataclass(slots=True)
class Peer:
    """One other server. What it publishes and how it answers may be changed at any time."""

    server_name: str
    port: int
    key: SigningKey
    ca_file: str
    exchanges: Exchanges
    document: JsonObject = field(default_factory=dict)
    responses: dict[str, web.Response] = field(default_factory=dict)
    """Other answers, by path; each may be given once."""
    serves: dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = field(
        default_factory=dict
    )
    """Answers by path, as often as they are asked for."""
    speaks: Callable[[web.BaseRequest], Awaitable[web.StreamResponse | None]] | None = None
    """Answers what is not about keys; None from it, or without it, is 404."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and target of what was asked."""

    def __post_init__(self) -> None:
        self.publish(self.key)

    def publish(self, *keys: SigningKey, valid_until_ms: int | None = None) -> None:
        """Publish keys, valid for an hour unless it is said otherwise."""
        until_ms = now_ms() + HOUR_MS if valid_until_ms is None else valid_until_ms
        self.document = make_server_keys(self.server_name, keys, [], until_ms)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self.requests.append((request.method, request.raw_path))
        if not request.path.startswith(IDENTITY_SERVICE):
            self.exchanges.observe_request(request.method, request.raw_path, await request.read())
        if request.path in self.responses:
            return self.responses.pop(request.path)
        if request.path in self.serves:
            return await self.serves[request.path](request)
        if request.path == "/_matrix/key/v2/server":
            return web.Response(body=orjson.dumps(self.document), content_type="application/json")
        if self.speaks is not None and (response := await self.speaks(request)) is not None:
            return response
        return web.json_response({"errcode": "M_UNRECOGNIZED", "error": "Not here"}, status=404)

    @asynccontextmanager
    async def serving(self, certificate: Certificate) -> AsyncIterator[Peer]:
        """Listen while the block runs."""
        async with listening(self.answer, self.port, certificate):
            yield self

    async def send(
        self,
        destination: str,
        port: int,
        method: str,
        target: str,
        content: JsonObject | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send a signed request to a node on loopback; ``headers`` and ``body`` replace what is signed."""
        encoded = None if content is None else encode_legacy(content)  # it may be wrong on purpose
        if headers is None:
            signed = authorization_header(self.key, method, target, self.server_name, destination, encoded)
            headers = {"Authorization": signed}
        tls = ssl.create_default_context(cafile=self.ca_file)
        async with (
            aiohttp.ClientSession() as http,
            http.request(
                method,
                URL(f"https://127.0.0.1:{port}{target}", encoded=True),
                data=encoded if body is None else body,
                headers={"Host": destination, **headers},
                ssl=tls,
                server_hostname=destination,
            ) as response,
        ):
            received = await response.read()
            content_type = response.headers.get("Content-Type", "")
            self.exchanges.observe(method, target, response.status, content_type, received)
            return Answer(response.status, orjson.loads(received))
