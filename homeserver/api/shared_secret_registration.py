"""`/_synapse/admin/v1/register`: see `homeserver.accounts.shared_secret`."""

from __future__ import annotations

from aiohttp import web

from federation.identifiers import server_name_of
from homeserver.api.request import Request, flag_field, optional_text_field, text_field
from homeserver.api.response import json_response
from homeserver.api.session_json import registered_json


async def get_nonce(request: Request) -> web.Response:
    """GET: a nonce to sign."""
    return json_response({"nonce": request.services.shared_secret.make_nonce()})


async def register_by_secret(request: Request) -> web.Response:
    """POST: register the user, and log them in."""
    body = await request.json_object()
    registered = await request.services.shared_secret.register(
        nonce=text_field(body, "nonce"),
        username=text_field(body, "username"),
        password=text_field(body, "password"),
        is_admin=flag_field(body, "admin", False),
        user_type=optional_text_field(body, "user_type"),
        mac=text_field(body, "mac"),
        address=request.address,
    )
    return json_response({**registered_json(registered), "home_server": server_name_of(registered.user_id)})
