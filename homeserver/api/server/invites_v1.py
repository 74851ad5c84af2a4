"""Specification file: server-server/invites-v1.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response

VERSION = "1"  # "must assume that the room version is either "1" or "2"", whose events look alike


async def send_invite_v1(request: Request) -> web.Response:
    """PUT /_matrix/federation/v1/invite/{roomId}/{eventId}: `sendInviteV1`."""
    params = request.params
    event = await request.json_object()
    unsigned = event.get("unsigned")
    shown = unsigned.get("invite_room_state") if isinstance(unsigned, dict) else None
    room = await request.services.rooms.find(params["roomId"])
    signed = await request.services.invited_here.invite(
        request.origin,
        params["roomId"],
        params["eventId"],
        room.version.id if room is not None else VERSION,
        event,
        shown,
    )
    return json_response([200, {"event": signed}])
