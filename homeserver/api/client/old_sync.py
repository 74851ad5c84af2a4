"""Deprecated forms of syncing: old_sync.yaml, peeking_events.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes
from homeserver.sync.token import parse_token

LIMIT_DEFAULT = 20


async def get_events(request: Request) -> web.Response:
    """GET /events: `getEvents`, and with a `room_id` `peekEvents`."""
    start = request.query("from")
    since = parse_token(start) if start else None
    timeout_ms = request.query_int("timeout", 0)
    events = request.services.old_events
    room_id = request.query("room_id")
    if room_id is not None:
        return json_bytes(await events.peek(request.requester, room_id, since, timeout_ms))
    return json_bytes(await events.events(request.requester, since, timeout_ms))


async def initial_sync(request: Request) -> web.Response:
    """GET /initialSync: `initialSync`."""
    answer = await request.services.old_events.initial(
        request.requester, request.query_int("limit", LIMIT_DEFAULT), archived=request.query_bool("archived")
    )
    return json_bytes(answer)


async def get_one_event(request: Request) -> web.Response:
    """GET /events/{eventId}: `getOneEvent`."""
    return json_bytes(
        await request.services.history.event_anywhere(request.requester, request.params["eventId"])
    )
