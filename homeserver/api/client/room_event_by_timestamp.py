"""Rooms › Getting events by time: room_event_by_timestamp.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def get_event_by_timestamp(request: Request) -> web.Response:
    """GET /rooms/{roomId}/timestamp_to_event: `getEventByTimestamp`."""
    request.query_required("ts")
    event = await request.services.history.nearest(
        request.requester,
        request.params["roomId"],
        request.query_int("ts", 0),
        forwards=request.query_choice("dir", ("f", "b")) == "f",
    )
    return json_response({"event_id": event.event_id, "origin_server_ts": event.origin_server_ts})
