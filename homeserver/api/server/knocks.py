"""Specification file: server-server/knocks.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response
from homeserver.federating.inviting import shown_of


async def make_knock(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/make_knock/{roomId}/{userId}: `makeKnock`."""
    params = request.params
    request.query_required("ver")
    return json_response(
        await request.services.resident.make(
            request.origin, params["roomId"], params["userId"], "knock", request.query_all("ver")
        )
    )


async def send_knock(request: Request) -> web.Response:
    """PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId}: `sendKnock`."""
    params = request.params
    room, _ = await request.services.resident.accept(
        request.origin, params["roomId"], params["eventId"], await request.json_object(), "knock"
    )
    return json_response({"knock_room_state": shown_of(room)})
