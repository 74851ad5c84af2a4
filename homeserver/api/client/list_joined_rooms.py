"""The user's rooms. Source: list_joined_rooms.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def get_joined_rooms(request: Request) -> web.Response:
    """GET /joined_rooms: `getJoinedRooms`."""
    return json_response({"joined_rooms": await request.services.leaving.joined_rooms(request.requester)})
