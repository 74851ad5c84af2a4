"""Banning and unbanning users. Source: banning.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, optional_text_field, text_field
from homeserver.api.response import empty_response


async def ban(request: Request) -> web.Response:
    """POST /rooms/{roomId}/ban: `ban`."""
    body = await request.json_object()
    await request.services.room_moderation.ban(
        request.requester,
        request.params["roomId"],
        text_field(body, "user_id"),
        reason=optional_text_field(body, "reason"),
    )
    return empty_response()


async def unban(request: Request) -> web.Response:
    """POST /rooms/{roomId}/unban: `unban`."""
    body = await request.json_object()
    await request.services.room_moderation.unban(
        request.requester,
        request.params["roomId"],
        text_field(body, "user_id"),
        reason=optional_text_field(body, "reason"),
    )
    return empty_response()
