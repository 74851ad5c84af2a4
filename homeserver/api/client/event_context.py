"""Modules › Event Context: event_context.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes
from homeserver.api.room_event_filter import room_event_filter

LIMIT_DEFAULT = 10


async def get_event_context(request: Request) -> web.Response:
    """GET /rooms/{roomId}/context/{eventId}: `getEventContext`."""
    passing = room_event_filter(request)
    return json_bytes(
        await request.services.history.context(
            request.requester,
            request.params["roomId"],
            request.params["eventId"],
            request.query_int("limit", passing.limit or LIMIT_DEFAULT),
            passing,
        )
    )
