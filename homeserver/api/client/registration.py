"""Specification file: registration.yaml."""

from __future__ import annotations

from aiohttp import web

from federation.event import JsonObject
from homeserver.accounts.user_interactive import InteractionRequired
from homeserver.api.request import Request, flag_field, optional_text_field, text_field
from homeserver.api.response import json_response
from homeserver.api.session_json import device_wish, registered_json

OPERATION = "POST /register"


async def register(request: Request) -> web.Response:
    """POST /register: `register`."""
    kind = request.query_choice("kind", ("user", "guest"), "user")
    body = await request.json_object()
    registration, interactive = request.services.registration, request.services.user_interactive
    if kind == "guest":
        name = optional_text_field(body, "initial_device_display_name")
        return json_response(registered_json(await registration.register_guest(name)))
    if (answer := interactive.answered(OPERATION, body)) is not None:
        return json_response(answer)
    guest_token = optional_text_field(body, "guest_access_token")
    username = optional_text_field(body, "username")
    # The session is not bound to the body: clients ask for the flows with an empty one.
    try:
        await interactive.require(
            OPERATION, body, registration.flows(), None, request.address, bind_body=False
        )
    except InteractionRequired:
        # "Homeservers MUST perform the relevant checks … before performing User-Interactive Authentication"
        if username is not None and guest_token is None:
            await registration.check_username(username)
        raise
    answer = await _register(request, body, username, guest_token)
    interactive.keep_answer(OPERATION, body, answer)
    return json_response(answer)


async def _register(
    request: Request, body: JsonObject, username: str | None, guest_token: str | None
) -> JsonObject:
    password = text_field(body, "password")
    wish = None if flag_field(body, "inhibit_login", False) else device_wish(body)
    registration = request.services.registration
    if guest_token is None:
        registered = await registration.register(username, password, wish)
    else:
        guest = await request.services.authenticator.authenticate(guest_token, request.address, "")
        registered = await registration.upgrade_guest(guest, username, password, wish)
    return registered_json(registered)


async def check_username_availability(request: Request) -> web.Response:
    """GET /register/available: `checkUsernameAvailability`."""
    await request.services.registration.check_username(request.query_required("username"))
    return json_response({"available": True})
