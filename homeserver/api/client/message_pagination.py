"""Rooms › Getting events for a room: message_pagination.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes
from homeserver.api.room_event_filter import room_event_filter
from homeserver.rooms.history import MessagesQuery

LIMIT_DEFAULT = 10


async def get_room_events(request: Request) -> web.Response:
    """GET /rooms/{roomId}/messages: `getRoomEvents`."""
    passing = room_event_filter(request)
    query = MessagesQuery(
        backwards=request.query_choice("dir", ("b", "f")) == "b",
        start=request.query("from") or None,
        to=request.query("to") or None,
        limit=request.query_int("limit", passing.limit or LIMIT_DEFAULT),
        filter=passing,
    )
    return json_bytes(
        await request.services.history.messages(request.requester, request.params["roomId"], query)
    )
