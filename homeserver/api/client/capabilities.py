"""Specification file: capabilities.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes


async def get_capabilities(request: Request) -> web.Response:
    """GET /capabilities: `getCapabilities`."""
    return json_bytes(request.services.discovery.capabilities(request.requester))
