"""Specification file: server-server/user_devices.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def get_user_devices(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/user/devices/{userId}: `getUserDevices`."""
    return json_response(await request.services.user_key_answers.devices(request.params["userId"]))
