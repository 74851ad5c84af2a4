"""Specification file: registration_tokens.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def registration_token_validity(request: Request) -> web.Response:
    """GET /register/m.login.registration_token/validity: `registrationTokenValidity`."""
    token = request.query_required("token")
    registration = request.services.registration
    registration.flows()  # Forbidden where registration is closed
    return json_response({"valid": registration.is_valid_token(token)})
