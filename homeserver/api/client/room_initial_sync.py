"""Rooms › Getting the state of one room at once: room_initial_sync.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes

LIMIT_DEFAULT = 10


async def room_initial_sync(request: Request) -> web.Response:
    """GET /rooms/{roomId}/initialSync: `roomInitialSync`."""
    return json_bytes(
        await request.services.room_initial_sync.read(
            request.requester, request.params["roomId"], request.query_int("limit", LIMIT_DEFAULT)
        )
    )
