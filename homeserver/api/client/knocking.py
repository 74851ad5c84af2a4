"""Knocking on rooms. Source: knocking.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.client.joining import servers_named
from homeserver.api.request import Request, optional_text_field
from homeserver.api.response import json_response


async def knock_room(request: Request) -> web.Response:
    """POST /knock/{roomIdOrAlias}: `knockRoom`."""
    body = await request.json_object()
    room_id = await request.services.joining.knock(
        request.requester,
        request.params["roomIdOrAlias"],
        via=servers_named(request),
        reason=optional_text_field(body, "reason"),
    )
    return json_response({"room_id": room_id})
