"""Specification file: room_summary.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def get_room_summary(request: Request) -> web.Response:
    """GET /room_summary/{roomIdOrAlias}: `getRoomSummary`."""
    room, via = request.params["roomIdOrAlias"], request.query_all("via")
    return json_response(
        await request.services.room_summaries.get(request.optional_requester, request.asker, room, via)
    )
