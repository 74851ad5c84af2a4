"""Specification file: versions.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes


async def get_versions(request: Request) -> web.Response:
    """GET /versions: `getVersions`. The same for all users."""
    return json_bytes(request.services.discovery.versions)
