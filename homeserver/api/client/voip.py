"""Specification file: voip.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def get_turn_server(request: Request) -> web.Response:
    """GET /voip/turnServer: `getTurnServer`."""
    return json_response(request.services.turn_servers.credentials(request.requester))
