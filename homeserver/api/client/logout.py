"""Specification file: logout.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import empty_response


async def logout(request: Request) -> web.Response:
    """POST /logout: `logout`."""
    await request.services.sessions.log_out(request.requester)
    return empty_response()


async def logout_all(request: Request) -> web.Response:
    """POST /logout/all: `logout_all`."""
    requester = request.requester
    await request.services.sessions.log_out_everywhere(requester.user_id, requester.user_nid)
    return empty_response()
