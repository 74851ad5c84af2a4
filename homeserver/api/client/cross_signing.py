"""Specification file: cross_signing.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.accounts.user_interactive import OWN_PASSWORD
from homeserver.api.request import Request
from homeserver.api.response import empty_response, json_response


async def upload_cross_signing_keys(request: Request) -> web.Response:
    """POST /keys/device_signing/upload: `uploadCrossSigningKeys`."""
    body, services, requester = await request.json_object(), request.services, request.requester
    grave = await services.cross_signing.needs_confirmation(requester, body)
    if grave:
        await services.user_interactive.require(
            "POST /keys/device_signing/upload", body, OWN_PASSWORD, requester, request.address
        )
    await services.cross_signing.upload(requester, body, confirmed=grave)
    return empty_response()


async def upload_cross_signing_signatures(request: Request) -> web.Response:
    """POST /keys/signatures/upload: `uploadCrossSigningSignatures`."""
    failures = await request.services.signatures.upload(request.requester, await request.json_object())
    return json_response({"failures": failures})
