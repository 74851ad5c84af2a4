"""Modules › Syncing: sync.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes
from homeserver.errors import InvalidParam
from homeserver.sync.context import SyncRequest
from homeserver.sync.token import parse_token

PRESENCE = ("online", "unavailable", "offline")
FILTER_LENGTH_MAX = 65536


async def sync(request: Request) -> web.Response:
    """GET /sync: `sync`."""
    since = request.query("since")
    chosen = request.query("filter")
    if chosen is not None and len(chosen) > FILTER_LENGTH_MAX:
        raise InvalidParam("The filter is too long: upload it and name its id")
    stable, unstable = "use_state_after", "org.matrix.msc4222.use_state_after"  # still asked for by clients
    answer = await request.services.sync.sync(
        request.requester,
        SyncRequest(
            since=parse_token(since) if since else None,
            filter=await request.services.filters.resolve(request.requester.user_nid, chosen),
            full_state=request.query_bool("full_state"),
            use_state_after=request.query_bool(stable) or request.query_bool(unstable),
            timeout_ms=request.query_int("timeout", 0),
            set_presence=request.query_choice("set_presence", PRESENCE, "online"),
        ),
    )
    return json_bytes(answer)
