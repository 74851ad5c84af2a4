"""Specification file: server-server/events.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes
from homeserver.errors import MissingParam


async def get_event(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/event/{eventId}: `getEvent`."""
    return json_bytes(await request.services.event_answers.event(request.origin, request.params["eventId"]))


async def get_room_state(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/state/{roomId}: `getRoomState`."""
    room_id, event_id = request.params["roomId"], request.query_required("event_id")
    return json_bytes(await request.services.event_answers.state(request.origin, room_id, event_id))


async def get_room_state_ids(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/state_ids/{roomId}: `getRoomStateIds`."""
    room_id, event_id = request.params["roomId"], request.query_required("event_id")
    return json_bytes(await request.services.event_answers.state_ids(request.origin, room_id, event_id))


async def get_event_by_timestamp(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/timestamp_to_event/{roomId}: `getEventByTimestamp`."""
    if request.query("ts") in (None, ""):
        raise MissingParam("The query parameter 'ts' is required: milliseconds since 1970")
    ts, direction = request.query_int("ts", 0), request.query_choice("dir", ("f", "b"))
    return json_bytes(
        await request.services.event_answers.nearest(
            request.origin, request.params["roomId"], ts, forwards=direction == "f"
        )
    )
