"""Specification file: server-server/version.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes


async def get_version(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/version: `getVersion`."""
    return json_bytes(request.services.discovery.federation_version)
