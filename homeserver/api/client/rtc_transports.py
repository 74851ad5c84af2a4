"""Where calls can take place. Source: MSC4143."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes


async def get_rtc_transports(request: Request) -> web.Response:
    """GET /rtc/transports."""
    return json_bytes(request.services.discovery.rtc_transports)
