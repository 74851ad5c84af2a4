"""Upgrading rooms. Source: room_upgrades.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, text_field
from homeserver.api.response import json_response


async def upgrade_room(request: Request) -> web.Response:
    """POST /rooms/{roomId}/upgrade: `upgradeRoom`."""
    body = await request.json_object()
    room_id = await request.services.upgrading.upgrade(
        request.requester,
        request.params["roomId"],
        text_field(body, "new_version"),
        additional_creators=body.get("additional_creators"),
    )
    return json_response({"replacement_room": room_id})
