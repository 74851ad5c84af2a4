"""Specification file: server-server/invites-v2.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, text_field
from homeserver.api.response import json_response
from homeserver.errors import BadJson


async def send_invite_v2(request: Request) -> web.Response:
    """PUT /_matrix/federation/v2/invite/{roomId}/{eventId}: `sendInviteV2`."""
    params = request.params
    body = await request.json_object()
    event = body.get("event")
    if not isinstance(event, dict):
        raise BadJson("'event' must be the invite")
    signed = await request.services.invited_here.invite(
        request.origin,
        params["roomId"],
        params["eventId"],
        text_field(body, "room_version"),
        event,
        body.get("invite_room_state"),
    )
    return json_response({"event": signed})
