"""Specification file: whoami.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def get_token_owner(request: Request) -> web.Response:
    """GET /account/whoami: `getTokenOwner`."""
    requester = request.requester
    return json_response(
        {"user_id": requester.user_id, "device_id": requester.device_id, "is_guest": requester.is_guest}
    )
