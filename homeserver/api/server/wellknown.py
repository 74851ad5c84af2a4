"""Specification file: server-server/wellknown.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes


async def get_well_known(request: Request) -> web.Response:
    """GET /.well-known/matrix/server: `getWellKnown`."""
    return json_bytes(request.services.discovery.well_known_server())
