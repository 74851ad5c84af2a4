"""Specification file: policy_server.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def get_wellknown_policy(request: Request) -> web.Response:
    """GET /.well-known/matrix/policy_server: `getWellknownPolicy`."""
    return json_response(request.services.policy_answers.public_keys())
