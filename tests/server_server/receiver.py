"""A server that takes transactions, or does not, as a test wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from federation.canonical import JsonObject
from federation.keys import VerifyKey
from federation.request_auth import parse_authorization, verify_request
from tests.conformance import Exchanges
from tests.server_server.certificates import Certificate
from tests.server_server.listening import listening

SEND = "/_matrix/federation/v1/send/"


@dataclass(slots=True)
class Received:
    """One transaction as it came, whatever was answered."""

    txn_id: str
    body: bytes
    json: JsonObject

    @property
    def bodies(self) -> list[str]:
        """The texts of its messages."""
        return [pdu["content"]["body"] for pdu in self.json["pdus"] if pdu["type"] == "m.room.message"]


@dataclass(slots=True)
class Receiver:
    """It checks that every request is signed by ``origin`` for it. ``status`` is what it answers next."""

    server_name: str
    port: int
    origin: str
    keys: dict[str, VerifyKey]
    exchanges: Exchanges
    status: int = 200
    errors: dict[str, str] = field(default_factory=dict)
    """What to answer of events, by id."""
    replies: list[web.Response] = field(default_factory=list)
    """What to answer instead, each once."""
    hanging: asyncio.Event | None = None
    """If set, answers wait for it."""
    received: list[Received] = field(default_factory=list)
    answered: list[Received] = field(default_factory=list)
    """Those that were answered with 200."""
    in_flight: int = 0
    in_flight_max: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.exchanges.observe_request(request.method, request.raw_path, body)
        [credentials] = [parse_authorization(value) for value in request.headers.getall("Authorization")]
        assert credentials.origin == self.origin
        verify_request(credentials, request.method, request.raw_path, self.server_name, body, self.keys)
        assert request.method == "PUT" and request.path.startswith(SEND)
        received = Received(request.path.removeprefix(SEND), body, orjson.loads(body))
        assert received.json["origin"] == self.origin
        assert len(received.json["pdus"]) <= 50 and len(received.json.get("edus", ())) <= 100
        self.received.append(received)
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        self._changed.set()
        try:
            if self.hanging is not None:
                await self.hanging.wait()
        finally:
            self.in_flight -= 1
        if self.replies:
            return self.replies.pop(0)
        if self.status != 200:
            return web.json_response({"errcode": "M_UNKNOWN", "error": "Not now"}, status=self.status)
        self.answered.append(received)
        self._changed.set()
        results = {event_id: {"error": error} for event_id, error in self.errors.items()}
        return web.json_response({"pdus": results})

    async def until(self, count: int, *, answered: bool = True) -> list[Received]:
        """Wait until so many transactions were answered, or have come."""
        return await self.until_true(lambda: len(self.answered if answered else self.received) >= count)

    async def until_true(self, condition: Any) -> list[Received]:
        """Wait until a condition holds; the transactions that were answered."""
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
        return self.answered

    @property
    def bodies(self) -> list[str]:
        """The texts of all messages that were answered for, in order."""
        return [body for received in self.answered for body in received.bodies]

    @property
    def edus(self) -> list[JsonObject]:
        """All EDUs that were answered for, in order."""
        return [edu for received in self.answered for edu in received.json.get("edus", ())]

    @asynccontextmanager
    async def serving(self, certificate: Certificate) -> AsyncIterator[Receiver]:
        """Listen while the block runs."""
        async with listening(self.answer, self.port, certificate):
            yield self
