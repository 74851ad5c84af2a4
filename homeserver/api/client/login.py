"""Specification file: login.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.accounts.login import identified_user
from homeserver.api.request import Request, text_field
from homeserver.api.response import json_response
from homeserver.api.session_json import device_wish, session_json
from homeserver.errors import Unknown

FLOWS = {"flows": [{"type": "m.login.password"}, {"type": "m.login.token", "get_login_token": True}]}


async def get_login_flows(request: Request) -> web.Response:
    """GET /login: `getLoginFlows`."""
    return json_response(FLOWS)


async def login(request: Request) -> web.Response:
    """POST /login: `login`."""
    body = await request.json_object()
    kind, wish = text_field(body, "type"), device_wish(body)
    service = request.services.login
    if kind == "m.login.password":
        user, password = identified_user(body), text_field(body, "password")
        session = await service.by_password(user, password, wish, request.address)
    elif kind == "m.login.token":
        session = await service.by_token(text_field(body, "token"), wish, request.address)
    else:
        raise Unknown("This server has no such login type: GET this path lists those it has")
    return json_response(session_json(session))
