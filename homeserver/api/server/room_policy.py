"""Specification file: server-server/room_policy.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def ask_policy_server_to_sign(request: Request) -> web.Response:
    """POST /_matrix/policy/v1/sign: `askPolicyServerToSign`."""
    event = await request.json_object()
    return json_response(await request.services.policy_answers.sign(request.origin, event))
