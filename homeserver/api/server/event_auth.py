"""Specification file: server-server/event_auth.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes


async def get_event_auth(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}: `getEventAuth`."""
    room_id, event_id = request.params["roomId"], request.params["eventId"]
    return json_bytes(await request.services.event_answers.event_auth(request.origin, room_id, event_id))
