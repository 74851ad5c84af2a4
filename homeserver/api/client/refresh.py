"""Specification file: refresh.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, text_field
from homeserver.api.response import json_response
from homeserver.api.session_json import tokens_json


async def refresh(request: Request) -> web.Response:
    """POST /refresh: `refresh`."""
    refresh_token = text_field(await request.json_object(), "refresh_token")
    return json_response(tokens_json(await request.services.sessions.refresh(refresh_token)))
