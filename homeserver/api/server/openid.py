"""Specification file: server-server/openid.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response
from homeserver.errors import UnknownToken


async def exchange_open_id_token(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/openid/userinfo: `exchangeOpenIdToken`."""
    user_id = await request.services.openid.user_of(request.query_required("access_token"))
    if user_id is None:
        raise UnknownToken("The token is unknown or has expired: ask the user for a new one")
    return json_response({"sub": user_id})
