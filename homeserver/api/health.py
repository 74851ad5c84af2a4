"""For load balancers: whether this node can serve."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def get_health(request: Request) -> web.Response:
    """GET /health: 200 while the database answers, else 503."""
    await request.services.health.check()
    return json_response({"status": "ok"})
