"""Specification file: server-server/leaving-v1.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response
from homeserver.api.server.leaving_v2 import accept_leave


async def make_leave(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/make_leave/{roomId}/{userId}: `makeLeave`."""
    params = request.params
    return json_response(
        await request.services.resident.make(
            request.origin, params["roomId"], params["userId"], "leave", None
        )
    )


async def send_leave_v1(request: Request) -> web.Response:
    """PUT /_matrix/federation/v1/send_leave/{roomId}/{eventId}: as version 2, with a status in the answer."""
    await accept_leave(request)
    return json_response([200, {}])
