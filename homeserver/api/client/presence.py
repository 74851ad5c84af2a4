"""Presence. Source: presence.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, optional_text_field, text_field
from homeserver.api.response import empty_response, json_response


async def set_presence(request: Request) -> web.Response:
    """PUT /presence/{userId}/status: `setPresence`."""
    request.own_user_id()
    body = await request.json_object()
    state, status_msg = text_field(body, "presence"), optional_text_field(body, "status_msg")
    request.services.presence.set(request.requester, state, status_msg)
    return empty_response()


async def get_presence(request: Request) -> web.Response:
    """GET /presence/{userId}/status: `getPresence`."""
    return json_response(await request.services.presence.get(request.requester, request.params["userId"]))
