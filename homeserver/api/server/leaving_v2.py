"""Specification file: server-server/leaving-v2.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import empty_response


async def send_leave_v2(request: Request) -> web.Response:
    """PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}: `sendLeaveV2`."""
    await accept_leave(request)
    return empty_response()


async def accept_leave(request: Request) -> None:
    """Take the leave in a request into its room."""
    params = request.params
    await request.services.resident.accept(
        request.origin, params["roomId"], params["eventId"], await request.json_object(), "leave"
    )
