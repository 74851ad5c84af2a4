"""Rooms shared with another user. Source: mutual_rooms.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def get_mutual_rooms(request: Request) -> web.Response:
    """GET /mutual_rooms: `getMutualRooms`."""
    rooms = await request.services.user_directory.mutual_rooms(
        request.requester, request.query_required("user_id"), request.query("from")
    )
    body: dict[str, list[str] | int | str] = {"joined": rooms.room_ids, "count": rooms.count}
    if rooms.next_batch is not None:
        body["next_batch"] = rooms.next_batch
    return json_response(body)
