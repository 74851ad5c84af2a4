"""Specification file: server-server/keys_server.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def get_server_key(request: Request) -> web.Response:
    """GET /_matrix/key/v2/server: `getServerKey`."""
    return json_response(request.services.own_keys.document())
