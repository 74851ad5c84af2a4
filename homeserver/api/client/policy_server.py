"""Specification file: policy_server.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.errors import NotFound


async def get_wellknown_policy(request: Request) -> web.Response:
    """GET /.well-known/matrix/policy_server: `getWellknownPolicy`. This node checks no rooms' events."""
    raise NotFound("This server is no policy server")
