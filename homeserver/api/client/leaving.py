"""Leaving and forgetting rooms. Source: leaving.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, optional_text_field
from homeserver.api.response import empty_response


async def leave_room(request: Request) -> web.Response:
    """POST /rooms/{roomId}/leave: `leaveRoom`."""
    reason = optional_text_field(await request.json_object(), "reason")
    await request.services.leaving.leave(request.requester, request.params["roomId"], reason=reason)
    return empty_response()


async def forget_room(request: Request) -> web.Response:
    """POST /rooms/{roomId}/forget: `forgetRoom`."""
    await request.services.leaving.forget(request.requester, request.params["roomId"])
    return empty_response()
