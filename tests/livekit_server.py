"""A LiveKit server for tests, as far as this node speaks to one: it makes rooms for those with a token."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import OctKey

KEY, SECRET = "veche", "a random text of the tests, long enough"


def grants_of(token: str) -> dict[str, Any]:
    """The claims of a token that LiveKit would accept now."""
    claims: dict[str, Any] = jwt.decode(token, OctKey.import_key(SECRET), algorithms=["HS256"]).claims
    assert claims["iss"] == KEY
    assert claims["nbf"] <= time.time() < claims["exp"]
    return claims


@dataclass(slots=True)
class LiveKitServer:
    """What was asked of it."""

    port: int
    rooms: list[str] = field(default_factory=list)
    is_broken: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """Of the section [livekit]."""
        return {
            "url": f"ws://127.0.0.1:{self.port}",
            "api_key": KEY,
            "api_secret": SECRET,
        }

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.is_broken:
            return web.json_response({"code": "internal"}, status=500)
        if (request.method, request.path) != ("POST", "/twirp/livekit.RoomService/CreateRoom"):
            return web.json_response({"code": "bad_route"}, status=404)
        claims = grants_of(request.headers["Authorization"].removeprefix("Bearer "))
        if not claims["video"].get("roomCreate"):
            return web.json_response({"code": "unauthenticated"}, status=401)
        name = (await request.json())["name"]
        self.rooms.append(name)
        return web.json_response({"name": name, "sid": "RM_1"})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[LiveKitServer]:
        runner = web.ServerRunner(web.Server(self.answer, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            yield self
        finally:
            await runner.cleanup()
