"""Specification file: server-server/openid.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response
from homeserver.errors import MissingToken, UnknownToken


async def exchange_open_id_token(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/openid/userinfo: `exchangeOpenIdToken`."""
    token = request.query("access_token")
    if token is None:
        raise MissingToken("The query parameter 'access_token' is required: the token that the user gave")
    user_id = await request.services.openid.user_of(token)
    if user_id is None:
        raise UnknownToken("The token is unknown or has expired: ask the user for a new one")
    return json_response({"sub": user_id})
