"""Forming relationships between events › Relationships API: relations.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes
from homeserver.rooms.relating_events import RelationsQuery

LIMIT_DEFAULT = 50


async def get_relating_events(request: Request) -> web.Response:
    """GET /rooms/{roomId}/relations/{eventId}: `getRelatingEvents`."""
    query = RelationsQuery(
        rel_type=request.params.get("relType"),
        event_type=request.params.get("eventType"),
        start=request.query("from") or None,
        to=request.query("to") or None,
        limit=request.query_int("limit", LIMIT_DEFAULT),
        backwards=request.query_choice("dir", ("b", "f"), "b") == "b",
        recurse=request.query_bool("recurse") if request.query("recurse") is not None else None,
    )
    return json_bytes(
        await request.services.relating_events.page(
            request.requester, request.params["roomId"], request.params["eventId"], query
        )
    )


async def get_relating_events_with_rel_type(request: Request) -> web.Response:
    """GET /rooms/{roomId}/relations/{eventId}/{relType}: `getRelatingEventsWithRelType`."""
    return await get_relating_events(request)


async def get_relating_events_with_rel_type_and_event_type(request: Request) -> web.Response:
    """GET /rooms/{roomId}/relations/{eventId}/{relType}/{eventType}:
    `getRelatingEventsWithRelTypeAndEventType`."""
    return await get_relating_events(request)
