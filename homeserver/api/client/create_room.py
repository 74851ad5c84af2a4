"""Creating rooms. Source: create_room.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response
from homeserver.rooms.creation_request import CreationRequest


async def create_room(request: Request) -> web.Response:
    """POST /createRoom: `createRoom`."""
    wanted = CreationRequest.of_body(await request.json_object())
    if wanted.invite:
        limits, user_id = request.services.rate_limits, request.requester.user_id
        limits.peek("invites", user_id)
        for _ in wanted.invite:
            limits.spend("invites", user_id)
    room_id = await request.services.creation.create(request.requester, wanted)
    return json_response({"room_id": room_id})
