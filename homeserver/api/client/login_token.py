"""Specification file: login_token.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.accounts.user_interactive import OWN_PASSWORD
from homeserver.api.request import Request
from homeserver.api.response import json_response


async def generate_login_token(request: Request) -> web.Response:
    """POST /login/get_token: `generateLoginToken`."""
    body, services = await request.json_object(), request.services
    await services.user_interactive.require(
        "POST /login/get_token", body, OWN_PASSWORD, request.requester, request.address
    )
    token = await services.login.make_token(request.requester)
    return json_response({"login_token": token, "expires_in_ms": services.login.login_token_lifetime_ms})
