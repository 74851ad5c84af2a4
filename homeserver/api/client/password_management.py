"""Specification file: password_management.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.accounts.user_interactive import OWN_PASSWORD
from homeserver.api.request import Request, flag_field, text_field
from homeserver.api.response import empty_response


async def change_password(request: Request) -> web.Response:
    """POST /account/password: `changePassword`."""
    body, services = await request.json_object(), request.services
    if body.get("auth") is not None or "new_password" in body:  # clients ask for the flows with an empty body
        services.account_management.passwords.check_strength(text_field(body, "new_password"))
    await services.user_interactive.require(
        "POST /account/password", body, OWN_PASSWORD, request.requester, request.address
    )
    logout_devices = flag_field(body, "logout_devices", True)
    await services.account_management.change_password(
        request.requester, text_field(body, "new_password"), logout_devices=logout_devices
    )
    return empty_response()
