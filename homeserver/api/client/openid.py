"""Specification file: openid.yaml."""

from __future__ import annotations

from aiohttp import web

from federation.identifiers import server_name_of
from homeserver.api.request import Request
from homeserver.api.response import json_response


async def request_open_id_token(request: Request) -> web.Response:
    """POST /user/{userId}/openid/request_token: `requestOpenIdToken`."""
    user_id, openid = request.own_user_id(), request.services.openid
    await request.json_object()
    return json_response(
        {
            "access_token": await openid.make_token(request.requester),
            "token_type": "Bearer",
            "matrix_server_name": server_name_of(user_id),
            "expires_in": openid.lifetime_ms // 1000,
        }
    )
