"""Typing notifications. Source: typing.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import empty_response
from homeserver.errors import BadJson, MissingParam


async def set_typing(request: Request) -> web.Response:
    """PUT /rooms/{roomId}/typing/{userId}: `setTyping`."""
    user_id = request.own_user_id()
    body = await request.json_object()
    if "typing" not in body:
        raise MissingParam("'typing' is required")
    typing, timeout_ms = body["typing"], body.get("timeout")
    if not isinstance(typing, bool):
        raise BadJson("'typing' must be true or false")
    if timeout_ms is not None and (isinstance(timeout_ms, bool) or not isinstance(timeout_ms, int)):
        raise BadJson("'timeout' must be an integer, in milliseconds")
    await request.services.typing.set(request.params["roomId"], user_id, typing, timeout_ms)
    return empty_response()
