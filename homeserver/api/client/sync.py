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
    answer = await request.services.sync.sync(
        request.requester,
        SyncRequest(
            since=parse_token(since) if since else None,
            filter=await request.services.filters.resolve(request.requester.user_nid, chosen),
            full_state=request.query_bool("full_state"),
            state_name=_state_name(request),
            timeout_ms=request.query_int("timeout", 0),
            set_presence=request.query_choice("set_presence", PRESENCE, "online"),
        ),
    )
    return json_bytes(answer)


def _state_name(request: Request) -> str:
    if request.query_bool("use_state_after"):
        return "state_after"
    # Clients still ask under the name from before Matrix 1.16, and look for the answer under it.
    if request.query_bool("org.matrix.msc4222.use_state_after"):
        return "org.matrix.msc4222.state_after"
    return "state"
